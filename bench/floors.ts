/** What the bare parts reach on this machine, in the same run as our own figures: fdatasync, SQLite, a gRPC stream over TLS, RabbitMQ confirms. */
import { execFileSync } from 'node:child_process'
import { closeSync, fdatasyncSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import grpc from '@grpc/grpc-js'
import sqlite3 from 'sqlite3'
import { AgentGatewayClient, type AgentMessage } from '@lichen/protocol'
import { readCpuS, readRssMiB, startProgram } from './children.js'
import { median } from './quantile.js'

const elapsedS = (from: number) => (performance.now() - from) / 1000

/** fdatasyncs per second of 4 KiB appends, and their median in ms. */
export function measureFlushes(directory: string, count = 2000): { perSecond: number; medianMs: number } {
  const file = openSync(join(directory, 'floor.bin'), 'w')
  const block = Buffer.alloc(4096, 1)
  const samples: number[] = []
  const start = performance.now()
  for (let i = 0; i < count; i++) {
    const from = performance.now()
    writeSync(file, block)
    fdatasyncSync(file)
    samples.push(performance.now() - from)
  }
  closeSync(file)
  return { perSecond: count / elapsedS(start), medianMs: samples.sort((a, b) => a - b)[count >> 1]! }
}

/** Single-row commits per second of bare `sqlite3`, WAL, synchronous=FULL. */
export async function measureSqliteCommits(directory: string, count = 3000): Promise<number> {
  const db = await new Promise<sqlite3.Database>((resolve, reject) => {
    const opened = new sqlite3.Database(join(directory, 'floor.db'), (error) => (error ? reject(error) : resolve(opened)))
  })
  const run = (sql: string, ...values: unknown[]) => new Promise<void>((resolve, reject) => db.run(sql, values, (error) => (error ? reject(error) : resolve())))
  await run('PRAGMA journal_mode = WAL')
  await run('PRAGMA synchronous = FULL')
  await run('CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)')
  const start = performance.now()
  for (let i = 0; i < count; i++) await run('INSERT INTO t (v) VALUES (?)', `value ${i}`)
  const rate = count / elapsedS(start)
  await new Promise<void>((resolve) => db.close(() => resolve()))
  return rate
}

/** Files of a P-256 key and its certificate for localhost, which is its own authority. */
function makeCertificate(directory: string): { readonly key: string; readonly certificate: string } {
  const key = join(directory, 'floor.key')
  const certificate = join(directory, 'floor.crt')
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, '-out', certificate, '-days', '1', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'], { stdio: 'ignore' })
  return { key, certificate }
}

/** Messages of 200 bytes per second one way on an empty bidirectional gRPC stream over mutual TLS, to a server in a process of its own that only counts. */
export async function measureGrpcStream(directory: string, count = 200_000): Promise<number> {
  const { key, certificate } = makeCertificate(directory)
  const server = startProgram('grpc-floor.ts', [key, certificate])
  const { port } = await server.hear((line) => line.port !== undefined)
  const pem = readFileSync(certificate)
  const client = new AgentGatewayClient(`localhost:${port}`, grpc.credentials.createSsl(pem, readFileSync(key), pem), { 'grpc.enable_channelz': 0 })
  const stream = client.connect()
  await new Promise<void>((resolve, reject) => stream.on('error', reject).on('data', () => resolve()))
  const message: AgentMessage = { message: { $case: 'heartbeat', value: { facts: 'x'.repeat(190) } } }
  server.process.stdin!.write(`count ${count}\n`)
  await server.hear((line) => line.counting === true)
  const start = performance.now()
  for (let i = 0; i < count; i++) if (!stream.write(message)) await new Promise((resolve) => stream.once('drain', resolve))
  await server.hear((line) => line.counted === true)
  const rate = count / elapsedS(start)
  stream.removeAllListeners('error').on('error', () => undefined)
  client.close()
  await server.end('SIGTERM')
  return rate
}

export interface ConnectionFloor {
  /** Connections with mutual TLS that a bare gRPC server accepts for each second of its processor time, each with a stream. */
  readonly acceptsPerCpuS: number
  /** Sending a message down each stream until all have answered, ms; median of five. */
  readonly fanOutMs: number
  /** Of the bare server with all connections, and without any. */
  readonly rssMiB: number
  readonly emptyRssMiB: number
}

/** A bare gRPC server in a process of its own and so many connections to it from this one. */
export async function measureConnections(directory: string, count = 1_000): Promise<ConnectionFloor> {
  const { key, certificate } = makeCertificate(directory)
  const server = startProgram('grpc-floor.ts', [key, certificate])
  const { port } = await server.hear((line) => line.port !== undefined)
  const cpuS = readCpuS(server.pid)
  const emptyRssMiB = readRssMiB(server.pid)
  const pem = readFileSync(certificate)
  const credentials = grpc.credentials.createSsl(pem, readFileSync(key), pem)
  const clients: AgentGatewayClient[] = []
  for (let at = 0; at < count; at += 50) {
    await Promise.all(Array.from({ length: Math.min(50, count - at) }, async () => {
      const client = new AgentGatewayClient(`localhost:${port}`, credentials, { 'grpc.use_local_subchannel_pool': 1, 'grpc.enable_channelz': 0 })
      clients.push(client)
      const stream = client.connect()
      let isOpen = false
      await new Promise<void>((resolve, reject) => stream.on('error', reject).on('data', () => {
        if (isOpen) return void stream.write({ message: { $case: 'heartbeat', value: { facts: 'x'.repeat(190) } } })
        isOpen = true
        resolve()
      }))
    }))
  }
  const acceptsPerCpuS = count / (readCpuS(server.pid) - cpuS)
  const samples: { fanOutMs: number; rssMiB: number }[] = []
  for (let run = 0; run < 6; run++) {
    server.forget()
    server.process.stdin!.write('again\n')
    samples.push(await server.hear((line) => line.fanOutMs > 0))
  }
  await server.end('SIGTERM')
  for (const client of clients) client.close()
  return { acceptsPerCpuS, fanOutMs: median(samples.slice(1).map((sample) => sample.fanOutMs)), rssMiB: samples.at(-1)!.rssMiB, emptyRssMiB }
}

/** A fresh directory on the disk that is measured, removed at exit. */
export function makeDirectory(): string {
  const directory = mkdtempSync(join(process.env['LICHEN_BENCH_DIR'] ?? tmpdir(), 'lichen-bench-'))
  process.on('exit', () => rmSync(directory, { recursive: true, force: true }))
  return directory
}
