/** The `lichen` command of this checkout, as a user types it. */
import { fileURLToPath } from 'node:url'
import { runProgram, type ProgramEnd, type ProgramOptions } from './child-program.js'
import type { ServerAddress } from './rest-client.js'

/** Runs `lichen …` against a server. */
export function runLichen(server: ServerAddress, words: readonly string[], options: ProgramOptions & { readonly env: NodeJS.ProcessEnv }): Promise<ProgramEnd> {
  return runProgram([process.execPath, fileURLToPath(import.meta.resolve('@lichen/cli/main')), ...words], {
    ...options,
    env: { ...options.env, LICHEN_URL: server.apiUrl, LICHEN_TOKEN: server.adminToken },
  })
}
