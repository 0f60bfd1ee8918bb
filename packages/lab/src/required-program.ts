import { LichenError } from '@lichen/core'
import { runProgram, type ProgramOptions, type ProgramResult } from './program.js'

/**
 * What a program printed, when it ended with exit code 0.
 * @throws LAB_PROGRAM_FAILED when it did not; the message ends with the last lines it printed.
 */
export async function runRequired(argv: readonly [string, ...string[]], options: ProgramOptions = {}): Promise<ProgramResult> {
  const result = await runProgram(argv, options)
  if (result.exitCode === 0) return result
  const tail = (result.stderr.trim() || result.stdout.trim()).split('\n').slice(-5).join(' | ')
  throw new LichenError('LAB_PROGRAM_FAILED', `${argv.slice(0, 6).join(' ')}: exit code ${result.exitCode}: ${tail || 'no output'}`)
}
