# Two images from one build:
#   docker build --target server -t lichen-server .     api and engine (LICHEN_ROLES chooses), and the `lichen` command
#   docker build --target agent  -t lichen-agent .      the agent of a node, for trying things out; real nodes install its package

FROM node:20-bookworm AS build
WORKDIR /opt/lichen
COPY . .
# Compiles sqlite3 against the headers of this Node.js, then TypeScript; then leaves only what runs.
RUN node scripts/setup.mjs && npm prune --omit=dev --no-audit --no-fund && rm -rf packages/*/src test .tap

FROM node:20-bookworm-slim AS server
ENV NODE_ENV=production \
    LICHEN_DATA_DIRECTORY=/var/lib/lichen \
    LICHEN_HOST=0.0.0.0 \
    LICHEN_GATEWAY_HOST=0.0.0.0
COPY --from=build /opt/lichen /opt/lichen
RUN install -d -o node -g node -m 0700 /var/lib/lichen && ln -s /opt/lichen/packages/cli/bin/lichen.js /usr/local/bin/lichen
WORKDIR /opt/lichen
USER node
VOLUME /var/lib/lichen
EXPOSE 8470 8471
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:8470/readyz').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# No npm in between: the program itself gets the signals.
CMD ["node", "packages/server/dist/main.js"]

FROM node:20-bookworm-slim AS agent
ENV NODE_ENV=production
COPY --from=build /opt/lichen/package.json /opt/lichen/package.json
COPY --from=build /opt/lichen/node_modules /opt/lichen/node_modules
COPY --from=build /opt/lichen/packages/core /opt/lichen/packages/core
COPY --from=build /opt/lichen/packages/protocol /opt/lichen/packages/protocol
COPY --from=build /opt/lichen/packages/agent /opt/lichen/packages/agent
RUN install -d -m 0700 /var/lib/lichen-agent /etc/lichen
WORKDIR /opt/lichen
VOLUME /var/lib/lichen-agent
# The agent changes its machine: it runs as root, here of its container alone.
CMD ["node", "packages/agent/dist/main.js", "run", "--config", "/etc/lichen/agent.yaml"]
