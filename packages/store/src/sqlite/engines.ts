/** The port of the engines that run. */
import type { EngineRecord, EngineStore } from '../ports/engine-store.js'
import type { EngineIdentity } from '../ports/task-store.js'
import { rowLifeMs } from '../rules/engine-rules.js'
import type { Connection } from './connection.js'
import { buildSingleWrite } from './single-write.js'
import type { Writer } from './writer.js'

const registerEngine = buildSingleWrite('registering an engine', async (connection, { engine, now, isSuccessor }: { engine: EngineRecord; now: number; isSuccessor: boolean }) => {
  const changed = await connection.run(
    `INSERT INTO engines (name, instance, gateway, started_at, until) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (name) DO UPDATE SET instance = excluded.instance, gateway = excluded.gateway, started_at = excluded.started_at, until = excluded.until
     WHERE engines.instance = excluded.instance OR engines.until <= ? OR ?`,
    engine.name, engine.instance, engine.gateway, engine.startedAt, engine.until, now, isSuccessor ? 1 : 0,
  )
  return changed > 0 ? ('registered' as const) : ('taken' as const)
})

const renewEngine = buildSingleWrite('renewing an engine', async (connection, { engine, until }: { engine: EngineIdentity; until: number }) => {
  const changed = await connection.run('UPDATE engines SET until = max(until, ?) WHERE name = ? AND instance = ?', until, engine.name, engine.instance)
  return changed > 0
})

const removeEngine = buildSingleWrite('removing an engine', async (connection, engine: EngineIdentity) => {
  await connection.run('DELETE FROM engines WHERE name = ? AND instance = ?', engine.name, engine.instance)
})

const deleteExpired = buildSingleWrite('forgetting engines', async (connection, before: number) => {
  await connection.run('DELETE FROM engines WHERE until < ?', before)
})

/** The engines over these connections. */
export function openEngines(reader: Connection, writer: Writer): EngineStore {
  return {
    registerEngine: (engine, now, isSuccessor) => writer.submit(registerEngine, { engine, now, isSuccessor }),
    renewEngine: (engine, until) => writer.submit(renewEngine, { engine, until }),
    removeEngine: (engine) => writer.submit(removeEngine, engine),
    async listEngines(now) {
      const rows = await reader.all<EngineRecord>('SELECT name, instance, gateway, started_at AS startedAt, until FROM engines ORDER BY name')
      const kept = rows.filter((row) => row.until >= now - rowLifeMs)
      if (kept.length < rows.length) await writer.submit(deleteExpired, now - rowLifeMs)
      return kept
    },
  }
}
