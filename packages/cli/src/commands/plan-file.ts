import { readFile } from 'node:fs/promises'
import { text } from 'node:stream/consumers'
import { usageFailure } from '../failure.js'

/**
 * The text of a deployment plan, YAML or JSON, from a file or from stdin for `-`. What it means is the server's to say, so that every problem
 * is found by the same code.
 * @throws CliFailure (usage) when the file cannot be read
 */
export async function readPlanFile(path: string, stdin: NodeJS.ReadStream): Promise<string> {
  if (path === '-') return text(stdin)
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    const code = (error as { code?: string }).code
    throw usageFailure(`${path}: ${code === 'ENOENT' ? 'no such file' : code === 'EISDIR' ? 'is a directory' : (error as Error).message}`)
  }
}
