/** The all-in-one server (SQLite, embedded broker) and agents as supervised processes on loopback addresses: enough to be killed at a named durable write. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import sqlite3 from 'sqlite3'
import { openClient, type Client } from './api.js'
import type { Network } from './network.js'
import { openSupervised, type Supervised } from './supervised.js'
import { agentProgram, buildAgentConfiguration, catalogDirectory, gatewayPort, inPlace, serverProgram } from './system.js'

const restartMs = 100

export interface SingleServer {
  readonly process: Supervised
  readonly client: Client
  /** `host:port`. */
  readonly gateway: string
  /** Path of its database. */
  readonly databasePath: string
}

export interface SingleAgent {
  readonly process: Supervised
  readonly directory: string
}

/** A server in this directory, not started yet. */
export function openSingleServer(directory: string, network: Network, name: string): SingleServer {
  const place = network.makePlace(name)
  const data = join(directory, 'data')
  const process = openSupervised({
    name, argv: inPlace(place, serverProgram), directory, restartMs,
    env: { LICHEN_DATA_DIRECTORY: data, LICHEN_HOST: place.address, LICHEN_PORT: '8470', LICHEN_GATEWAY_HOST: place.address, LICHEN_GATEWAY_PORT: String(gatewayPort), LICHEN_CATALOG: catalogDirectory, LICHEN_LOG_LEVEL: 'info' },
  })
  const client = openClient(`http://${place.address}:8470`, () => readFileSync(join(data, 'admin.token'), 'utf8').trim())
  return { process, client, gateway: `${place.address}:${gatewayPort}`, databasePath: join(data, 'lichen.db') }
}

/** An agent in this directory, not started yet; its ledger will stand in `home`. */
export function openSingleAgent(input: { readonly directory: string; readonly name: string; readonly gateway: string; readonly token: string; readonly home: string }): SingleAgent {
  const { directory, name, gateway, token, home } = input
  const confine = join(directory, 'root')
  const config = join(directory, 'agent.yaml')
  for (const path of [confine, join(home, 'made')]) mkdirSync(path, { recursive: true })
  writeFileSync(join(home, 'ledger'), '')
  writeFileSync(config, buildAgentConfiguration({ name, token, gateway, dataDirectory: join(directory, 'data'), confine, address: '127.0.0.1' }))
  return { directory, process: openSupervised({ name, argv: [process.execPath, agentProgram, 'run', '--config', config], directory, restartMs, finalCodes: [64, 78], env: {} }) }
}

/** Rows of one statement in the SQLite file. */
export function queryFile<R>(path: string, sql: string): Promise<readonly R[]> {
  return new Promise((resolve, reject) => {
    const database: sqlite3.Database = new sqlite3.Database(path, sqlite3.OPEN_READONLY, (opening) => {
      if (opening) return reject(opening)
      database.all(sql, (error, rows) => {
        database.close()
        if (error) reject(error)
        else resolve(rows as R[])
      })
    })
  })
}
