/**
 * Child program: a bare gRPC server with mutual TLS that does nothing of ours. argv: key, certificate (PEM files; the certificate is the authority, too). Prints `{port}`, then for each line on
 * its standard input sends one message down every stream, and prints `{fanOutMs, rssMiB}` when each has answered. The line `count N` has it print `{counting}`, and `{counted}` when N more messages have come.
 */
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import grpc from '@grpc/grpc-js'
import { AgentGatewayService, type AgentMessage, type EngineMessage } from '@lichen/protocol'
import { readRssMiB } from './children.js'

const [keyFile, certificateFile] = process.argv.slice(2) as [string, string]
const certificate = readFileSync(certificateFile)
const streams = new Set<grpc.ServerDuplexStream<AgentMessage, EngineMessage>>()
const message: EngineMessage = { message: { $case: 'order', value: { order: Buffer.alloc(150), keyId: 'floor', signature: Buffer.alloc(64), batch: Buffer.alloc(32) } } }
let answers = 0
let countdown = 0
let allAnswered: () => void = () => undefined

const server = new grpc.Server({ 'grpc.enable_channelz': 0 })
server.addService(AgentGatewayService, {
  join: () => undefined,
  renew: () => undefined,
  connect(call: grpc.ServerDuplexStream<AgentMessage, EngineMessage>) {
    streams.add(call)
    call.on('error', () => undefined).on('data', () => {
      if (++answers === streams.size) allAnswered()
      if (countdown > 0 && --countdown === 0) console.log(JSON.stringify({ counted: true }))
    }).on('end', () => call.end())
    // The client takes the stream as open when this comes.
    call.write(message)
  },
})
server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createSsl(certificate, [{ private_key: readFileSync(keyFile), cert_chain: certificate }], true), (error, port) => {
  if (error) throw error
  console.log(JSON.stringify({ port }))
})

createInterface({ input: process.stdin }).on('line', (line) => {
  const [, count] = /^count (\d+)$/.exec(line) ?? []
  if (count !== undefined) {
    countdown = Number(count)
    return void console.log(JSON.stringify({ counting: true }))
  }
  answers = 0
  const start = performance.now()
  allAnswered = () => console.log(JSON.stringify({ fanOutMs: performance.now() - start, rssMiB: readRssMiB(process.pid) }))
  for (const stream of streams) stream.write(message)
})
process.once('SIGTERM', () => process.exit(0))
