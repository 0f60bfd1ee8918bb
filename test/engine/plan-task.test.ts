import { join } from 'node:path'
import t from 'tap'
import { type NodeRecord, taskId } from '@lichen/core'
import { openSqliteStore, type TaskSummary } from '@lichen/store'
import { planTask } from '../../packages/engine/dist/tasks/plan-task.js'
import { makeCatalog, makeNode } from '../core/plan-fixture.js'

const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }
const plan = JSON.stringify({ apiVersion: 'lichen.dev/v1', kind: 'DeploymentPlan', metadata: { name: 'd', project: 'p' }, nodes: [{ name: 'all', select: { role: 'db' } }], components: [{ name: 'db', blueprint: 'db', on: 'all', with: {} }] })

t.test('a node that was lost since the plan was accepted is planned for, and one that was lost before is not', async (t) => {
  const store = await openSqliteStore({ path: join(t.testdir(), 'lichen.db') })
  t.teardown(() => store.close())
  const acceptedAt = 1_000_000
  const summary: TaskSummary = { id: taskId('t-1'), kind: 'apply', project: 'p', deployment: 'd', state: 'accepted', outcome: null, reason: '', counts: {}, seq: 1, createdAt: acceptedAt, updatedAt: acceptedAt }
  const lost = (id: string, lastSeenAt: number): NodeRecord => makeNode(id, { role: 'db' }, { state: 'lost', lastSeenAt })
  const planWith = async (nodes: readonly NodeRecord[]) => await planTask({ store, readNodes: () => Promise.resolve(nodes), catalog: makeCatalog(), lostAfterMs: 15_000, log }, summary, plan, { previewDigest: null, operation: null, rotation: null })
  const planned = await planWith([lost('n1', acceptedAt + 1000), lost('n2', acceptedAt - 10_000), lost('n3', acceptedAt - 20_000)])
  t.same([...new Set(planned.graph?.actions.map((action) => action.node))].sort(), ['n1', 'n2'])
  t.match(await planWith([lost('n3', acceptedAt - 20_000)]), { event: { type: 'taskEnded', outcome: 'rejected', failure: { code: 'TASK_PLAN_REJECTED' } } })
})
