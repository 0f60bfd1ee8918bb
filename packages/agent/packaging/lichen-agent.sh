#!/bin/sh
# The agent in its own runtime. The flags and variables keep an idle agent small (see docs/agent.md): small young generation, few threads, one malloc arena.
library=$(dirname "$(readlink -f "$0")")/../lib/lichen-agent
MALLOC_ARENA_MAX=1 UV_THREADPOOL_SIZE=2
export MALLOC_ARENA_MAX UV_THREADPOOL_SIZE
exec "$library/node" --max-semi-space-size=1 --max-old-space-size=256 --v8-pool-size=1 --optimize-for-size "$library/main.mjs" "$@"
