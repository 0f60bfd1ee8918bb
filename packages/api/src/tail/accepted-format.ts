import type { FastifyRequest } from 'fastify'

/** The format a client asks for: by `?format=`, else by the first media type of its Accept header that there is, else `fallback`. */
export function chooseFormat<Format extends string>(request: FastifyRequest, asked: Format | undefined, mediaTypes: Readonly<Record<string, Format>>, fallback: Format): Format {
  if (asked !== undefined) return asked
  const accepted = (request.headers.accept ?? '').split(',').map((part) => (part.split(';', 1)[0] ?? '').trim().toLowerCase())
  for (const mediaType of accepted) if (mediaTypes[mediaType] !== undefined) return mediaTypes[mediaType]
  return fallback
}
