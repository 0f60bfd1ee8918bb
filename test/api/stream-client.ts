/** Reads streams of the API over real sockets, as a browser or curl would. */
export interface SseMessage {
  readonly id: string | undefined
  readonly event: string
  readonly data: unknown
}

/** Messages of a stream of server-sent events (WHATWG HTML, section 9.2.6); comments are given to `onComment`. */
export async function* readSse(response: Response, onComment: (text: string) => void = () => undefined): AsyncGenerator<SseMessage> {
  for await (const block of split(response, '\n\n')) {
    const fields = new Map<string, string>()
    for (const line of block.split('\n')) {
      if (line.startsWith(':')) onComment(line.slice(1).trim())
      else fields.set(line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trimStart())
    }
    const data = fields.get('data')
    if (data !== undefined) yield { id: fields.get('id'), event: fields.get('event') ?? 'message', data: JSON.parse(data) }
  }
}

/** Whole lines of a body as they come. */
export const readLines = (response: Response): AsyncGenerator<string> => split(response, '\n')

async function* split(response: Response, separator: string): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const bytes of response.body!) {
    const parts = (rest + decoder.decode(bytes as Uint8Array, { stream: true })).split(separator)
    rest = parts.pop()!
    yield* parts
  }
  if (rest !== '') yield rest
}
