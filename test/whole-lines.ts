/**
 * Everything that a test prints goes through tap's parser, which takes a carriage return in the middle of a line (or U+2028, U+2029) for neither an end of the line nor a part of it: it
 * waits for ever, all assertions after such a comment are lost, also failed ones, and a test that had made none before it passes. What programs of a node print is full of carriage
 * returns. With this module imported, tap gets a space instead. `.taprc` loads it before every test.
 */
import t from 'tap'

type Write = (chunk: string | Buffer, ...rest: unknown[]) => boolean

const parser = Object.getPrototypeOf(t.parser) as { write: Write }
const write = parser.write
parser.write = function (chunk, ...rest) {
  return write.call(this, typeof chunk === 'string' ? chunk.replace(/\r(?!\n)|[\u2028\u2029]/g, ' ') : chunk, ...rest)
}
