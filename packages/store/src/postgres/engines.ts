/** The port of the engines that run. */
import type { EngineRecord, EngineStore } from '../ports/engine-store.js'
import type { EngineIdentity } from '../ports/task-store.js'
import { rowLifeMs } from '../rules/engine-rules.js'
import type { Reader } from './reader.js'
import { buildSingleWrite } from './single-write.js'
import type { Writer } from './writer.js'

const registerEngine = buildSingleWrite('registering an engine', async (session, { engine, now, isSuccessor }: { engine: EngineRecord; now: number; isSuccessor: boolean }) => {
  const changed = await session.run(
    `INSERT INTO engines (name, instance, gateway, started_at, until) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (name) DO UPDATE SET instance = excluded.instance, gateway = excluded.gateway, started_at = excluded.started_at, until = excluded.until
     WHERE engines.instance = excluded.instance OR engines.until <= $6 OR $7`,
    engine.name, engine.instance, engine.gateway, engine.startedAt, engine.until, now, isSuccessor,
  )
  return changed > 0 ? ('registered' as const) : ('taken' as const)
}, ({ engine }) => engine.name)

const renewEngine = buildSingleWrite('renewing an engine', async (session, { engine, until }: { engine: EngineIdentity; until: number }) => {
  const changed = await session.run('UPDATE engines SET until = greatest(until, $3) WHERE name = $1 AND instance = $2', engine.name, engine.instance, until)
  return changed > 0
}, ({ engine }) => engine.name)

const removeEngine = buildSingleWrite('removing an engine', async (session, engine: EngineIdentity) => {
  await session.run('DELETE FROM engines WHERE name = $1 AND instance = $2', engine.name, engine.instance)
}, (engine) => engine.name)

const deleteExpired = buildSingleWrite('forgetting engines', async (session, before: number) => {
  await session.run('DELETE FROM engines WHERE name IN (SELECT name FROM engines WHERE until < $1 FOR UPDATE SKIP LOCKED)', before)
}, () => '')

/** The engines over these sessions. */
export function openEngines(reader: Reader, writer: Writer): EngineStore {
  return {
    registerEngine: (engine, now, isSuccessor) => writer.submit(registerEngine, { engine, now, isSuccessor }),
    renewEngine: (engine, until) => writer.submit(renewEngine, { engine, until }),
    removeEngine: (engine) => writer.submit(removeEngine, engine),
    async listEngines(now) {
      const rows = await reader.all<EngineRecord>('SELECT name, instance, gateway, started_at AS "startedAt", until FROM engines ORDER BY name')
      const kept = rows.filter((row) => row.until >= now - rowLifeMs)
      if (kept.length < rows.length) await writer.submit(deleteExpired, now - rowLifeMs)
      return kept
    },
  }
}
