import { exitCodes } from './exit-codes.js'
import { CliFailure } from './failure.js'

/**
 * What `work` gives back; at Ctrl-C its signal fires, and once it has come to rest an `interrupted` failure is thrown with this message and hint.
 * A second Ctrl-C ends the process at once.
 */
export async function runInterruptible<T>(work: (signal: AbortSignal) => Promise<T>, words: { readonly message: string; readonly hint: string }): Promise<T> {
  const controller = new AbortController()
  const interrupt = () => {
    if (controller.signal.aborted) process.exit(exitCodes.interrupted)
    controller.abort()
  }
  process.on('SIGINT', interrupt)
  try {
    const result = await work(controller.signal)
    if (!controller.signal.aborted) return result
  } catch (error) {
    if (!controller.signal.aborted) throw error
  } finally {
    process.off('SIGINT', interrupt)
  }
  throw new CliFailure(exitCodes.interrupted, words.message, { hint: words.hint })
}
