/** A directory over HTTP, read-only: what stands in for a package repository on the network. */
import { createReadStream, realpathSync, statSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join, resolve, sep } from 'node:path'
import { pipeline } from 'node:stream'

export interface DirectoryServer {
  /** Without a slash at its end. */
  readonly url: string
  /** Ends it, and with it every transfer. */
  close(): Promise<void>
}

/** Serves the files of `directory` on an IPv4 address, at a free port unless one is given. */
export async function serveDirectory(address: string, directory: string, port = 0): Promise<DirectoryServer> {
  const top = realpathSync(directory)
  const server = createServer((request, response) => answer(top, request, response))
  await new Promise<void>((settle, fail) => server.once('error', fail).listen(port, address, settle))
  return {
    url: `http://${address}:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise((settle) => {
        server.close(() => settle())
        server.closeAllConnections()
      }),
  }
}

function answer(top: string, request: IncomingMessage, response: ServerResponse): void {
  if (request.method !== 'GET' && request.method !== 'HEAD') return void response.writeHead(405).end()
  const file = findFile(top, request.url ?? '/')
  if (!file) return void response.writeHead(404).end()
  response.writeHead(200, { 'Content-Length': file.size, 'Content-Type': 'application/octet-stream', 'Last-Modified': file.mtime.toUTCString() })
  if (request.method === 'HEAD') return void response.end()
  // a client that goes away in the middle is no error of ours
  pipeline(createReadStream(file.path), response, () => undefined)
}

/** The file that a URL means; undefined for directories, links out of `top`, and whatever is not there. */
function findFile(top: string, url: string): { path: string; size: number; mtime: Date } | undefined {
  try {
    const path = realpathSync(resolve(join(top, decodeURIComponent(new URL(url, 'http://directory').pathname))))
    const stat = statSync(path)
    return path.startsWith(top + sep) && stat.isFile() ? { path, size: stat.size, mtime: stat.mtime } : undefined
  } catch {
    return undefined
  }
}
