import type { Primitive } from './primitive.js'

/** Prints its text to the task log, in both modes; there is never anything to do. */
export const note: Primitive<'note'> = {
  check(spec, { log }) {
    for (const line of spec.text.split('\n')) log.say(line)
    return Promise.resolve({ isThere: true })
  },
}
