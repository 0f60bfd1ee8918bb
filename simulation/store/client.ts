/** The store as one process sees it: each call of the port is one call to the database over `call`, which decides how long it takes and whether it fails. */
import { LichenError } from '@lichen/core'
import type { Store } from '@lichen/store'
import type { Database } from './database.js'

/** Runs `body` at the database and gives back what it gave, or rejects: before it ran, or after. */
export type StoreCall = <T>(what: string, body: () => T) => Promise<T>

export interface StoreClientParts {
  readonly database: Database
  readonly call: StoreCall
  /** Runs a listener in a later turn. */
  readonly soon: (callback: () => void) => void
}

/** A client of the database. */
export function openStoreClient({ database, call, soon }: StoreClientParts): Store {
  const { tasks, nodes, engines, logs, secrets } = database
  const watches = new Set<() => void>()
  const pending = new Set<Promise<unknown>>()
  let isClosed = false

  const ask: StoreCall = (what, body) => {
    if (isClosed) return Promise.reject(new LichenError('STORE_UNAVAILABLE', `${what}: the database is closed`, { retryAfterS: 1 }))
    const asked = call(what, body)
    const settled = (): void => void pending.delete(asked)
    pending.add(asked)
    asked.then(settled, settled)
    return asked
  }
  const askOrThrow = <T>(what: string, body: () => T | LichenError): Promise<T> =>
    ask(what, () => {
      const answer = body()
      if (answer instanceof LichenError) throw answer
      return answer
    })

  function watchTask(task: string, listener: () => void): () => void {
    let isOn = true
    const stop = database.watch(task, () =>
      soon(() => {
        if (!isOn || isClosed) return
        try {
          listener()
        } catch {
          // A listener that fails is its owner's matter.
        }
      }),
    )
    const end = (): void => {
      isOn = false
      stop()
      watches.delete(end)
    }
    watches.add(end)
    return end
  }

  return {
    tasks: {
      create: (task) => askOrThrow('create', () => tasks.create(task)),
      append: (parts) => (parts.length === 0 ? Promise.resolve([]) : ask('append', () => tasks.append(parts))),
      readEvents: (task, afterSeq, limit) => ask('readEvents', () => tasks.readEvents(task, afterSeq, limit)),
      read: (task) => ask('read', () => tasks.read(task)),
      readSummary: (task) => ask('readSummary', () => tasks.readSummary(task)),
      findIdempotencyKey: (key) => ask('findKey', () => tasks.findIdempotencyKey(key)),
      list: (query) => ask('list', () => tasks.list(query)),
      claim: (task, engine, now, ttlMs) => ask('claim', () => tasks.claim(task, engine, now, ttlMs)),
      renew: (engine, all, now, ttlMs) => (all.length === 0 ? Promise.resolve(new Map()) : ask('renew', () => tasks.renew(engine, all, now, ttlMs))),
      release: (task, engine) => ask('release', () => tasks.release(task, engine)),
      readOwners: (all) => ask('readOwners', () => tasks.readOwners(all)),
      readApplied: (project, deployment) => ask('readApplied', () => tasks.readApplied(project, deployment)),
      readFootprint: (project, deployment) => ask('readFootprint', () => tasks.readFootprint(project, deployment)),
      readOtherFootprints: (project, deployment) => ask('readOtherFootprints', () => tasks.readOtherFootprints(project, deployment)),
      readLastPlan: (project, deployment) => ask('readLastPlan', () => tasks.readLastPlan(project, deployment)),
      readFront: (project, deployment) => ask('readFront', () => tasks.readFront(project, deployment)),
      listUnowned: (now, limit) => ask('listUnowned', () => tasks.listUnowned(now, limit)),
    },
    outbox: {
      readOutbox: (limit) => ask('readOutbox', () => tasks.readOutbox(limit)),
      deleteOutbox: (ids) => (ids.length === 0 ? Promise.resolve() : ask('deleteOutbox', () => tasks.deleteOutbox(ids))),
    },
    nodes: {
      putJoinToken: (token) => ask('putJoinToken', () => nodes.putJoinToken(token)),
      listJoinTokens: () => ask('listJoinTokens', () => nodes.listJoinTokens()),
      deleteJoinToken: (id) => ask('deleteJoinToken', () => nodes.deleteJoinToken(id)),
      admitNode: (input) => askOrThrow('admitNode', () => nodes.admitNode(input)),
      updateNodes: (changes) => (changes.length === 0 ? Promise.resolve() : ask('updateNodes', () => nodes.updateNodes(changes))),
      setNode: (node, change) => ask('setNode', () => nodes.setNode(node, change)),
      listNodes: () => ask('listNodes', () => nodes.listNodes()),
      readNodeChanges: (since, engine) => ask('readNodeChanges', () => nodes.readNodeChanges(since, engine)),
      deleteNode: (node) => ask('deleteNode', () => nodes.deleteNode(node)),
    },
    engines: {
      registerEngine: (engine, now, isSuccessor) => ask('registerEngine', () => engines.registerEngine(engine, now, isSuccessor)),
      renewEngine: (engine, until) => ask('renewEngine', () => engines.renewEngine(engine, until)),
      removeEngine: (engine) => ask('removeEngine', () => engines.removeEngine(engine)),
      listEngines: (now) => ask('listEngines', () => engines.listEngines(now)),
    },
    logs: {
      appendLog: (chunks) => (chunks.length === 0 ? Promise.resolve([]) : ask('appendLog', () => logs.appendLog(chunks))),
      readLog: (task, offset, maxBytes, filter) => ask('readLog', () => logs.readLog(task, offset, maxBytes, filter)),
      logEnd: (task) => ask('logEnd', () => logs.logEnd(task)),
    },
    secrets: {
      putSecretsIfAbsent: (all) => (all.length === 0 ? Promise.resolve() : ask('putSecretsIfAbsent', () => secrets.putSecretsIfAbsent(all))),
      putSecret: (secret) => ask('putSecret', () => secrets.putSecret(secret)),
      readSecrets: (scope) => ask('readSecrets', () => secrets.readSecrets(scope)),
      putApiToken: (token) => ask('putApiToken', () => secrets.putApiToken(token)),
      findApiToken: (digest) => ask('findApiToken', () => secrets.findApiToken(digest)),
      appendAudit: (entry) => ask('appendAudit', () => secrets.appendAudit(entry)),
    },
    watchTask,
    ping: () => ask('ping', () => undefined),
    async close() {
      isClosed = true
      for (const end of [...watches]) end()
      await Promise.allSettled(pending)
    },
  }
}
