import { LichenError } from '@lichen/core'
import type { Api } from '../schema/type-provider.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The body is, or holds, a plan: its syntax errors are the plan's, and YAML is read too. */
    readonly hasPlan?: boolean
  }
}

/** Content types of YAML: the registered one (RFC 9512) and those in use before it. */
export const yamlMediaTypes = ['application/yaml', 'text/yaml', 'application/x-yaml', 'text/x-yaml'] as const

/** A body of YAML as it came; operations parse it with the plan's own parser. */
export class YamlText {
  constructor(readonly text: string) {}
}

/**
 * Reads JSON and YAML bodies. An empty body is no body, whatever its content type says.
 * @throws PLAN_SYNTAX or REQUEST_SHAPE for JSON that is not well-formed, REQUEST_MEDIA_TYPE for YAML where no plan is expected
 */
export function registerContentParsers(app: Api): void {
  app.removeAllContentTypeParsers()
  const parseJson = app.getDefaultJsonParser('error', 'error')
  app.addContentTypeParser(['application/json', 'application/merge-patch+json'], { parseAs: 'string' }, (request, body, done) => {
    if (body === '') return done(null, undefined)
    void parseJson(request, body as string, (error, value) => {
      if (error === null) return done(null, value)
      const code = request.routeOptions.config.hasPlan === true ? 'PLAN_SYNTAX' : 'REQUEST_SHAPE'
      const message = `the body is not well-formed JSON: ${explainJson(body as string)}`
      done(new LichenError(code, message, { problems: [{ code, path: '', message }] }))
    })
    return undefined
  })
  app.addContentTypeParser([...yamlMediaTypes], { parseAs: 'string' }, (request, body, done) => {
    if (request.routeOptions.config.hasPlan === true) return done(null, new YamlText(body as string))
    done(new LichenError('REQUEST_MEDIA_TYPE', `${request.method} ${request.url} reads application/json`))
    return undefined
  })
}

function explainJson(text: string): string {
  try {
    JSON.parse(text)
    return 'it names a property that is not allowed ("__proto__" or "constructor")'
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}
