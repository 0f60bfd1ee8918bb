// A store whose answers come late, or not at all although it did what it was asked: what the engine takes from that.
import { LichenError } from '@lichen/core'
import type { Store } from '@lichen/store'
import t, { type Test } from 'tap'
import { startWorld } from './world.js'

type Verb = 'claim' | 'renew' | 'append'

/** Answers to these are lost on the way, the first of each kind and of appends all that intend an order; the store has done what it was asked. */
function losesAnswers(lost: readonly Verb[]): (store: Store) => Store {
  const left = new Set(lost)
  const breakOff = (verb: Verb): never => {
    throw new LichenError('STORE_UNAVAILABLE', `${verb}: the connection broke before the answer came`)
  }
  return (store) => ({
    ...store,
    tasks: {
      ...store.tasks,
      claim: async (...input) => {
        const answer = await store.tasks.claim(...input)
        return left.delete('claim') ? breakOff('claim') : answer
      },
      renew: async (...input) => {
        const answer = await store.tasks.renew(...input)
        return left.delete('renew') ? breakOff('renew') : answer
      },
      append: async (parts) => {
        const answers = await store.tasks.append(parts)
        return left.has('append') && parts.some(({ events }) => events.some(({ type }) => type === 'actionSent')) ? breakOff('append') : answers
      },
    },
  })
}

async function runOnce(t: Test, lost: readonly Verb[]): Promise<void> {
  const { clock, connect, submit, readEvents, waitFor, warnings } = await startWorld(t, ['one'], losesAnswers(lost))
  const call = connect('one', 'agent')
  await submit('t-1', { blueprint: 'retried', with: { script: 'true' } })
  await waitFor('the order goes out', () => call.orders.some(({ attempt }) => attempt === 1))
  // Several renewals, and longer than a lease that nobody renews.
  await clock.turn(10_000)
  call.result(call.orders[0]!, { outcome: 'failed', failure: { code: 'COMMAND_FAILED', message: 'no' } })
  await waitFor('the retry goes out', () => call.orders.some(({ attempt }) => attempt === 2))
  call.result(call.orders.at(-1)!)
  await waitFor('the task ends', async () => (await readEvents('t-1')).at(-1)?.event.type === 'taskEnded')
  const events = (await readEvents('t-1')).map(({ event }) => event)
  t.match(events.at(-1), { outcome: 'succeeded' })
  t.same(events.flatMap((event) => (event.type === 'actionSent' ? [[event.attempt, event.epoch]] : [])), [[1, 1], [2, 1]], 'every attempt once, and under the first lease: it is the same process that has it')
  t.same(new Set(events.flatMap((event) => (event.type === 'taskClaimed' ? [event.epoch] : []))), new Set([1]))
  t.notOk(warnings.includes('the lease of a task was lost'))
}

t.test('a lease that was given without an answer is taken up by the same engine, and is the same lease', async (t) => runOnce(t, ['claim']))
t.test('a renewal without an answer loses no task', async (t) => runOnce(t, ['renew']))
t.test('events that were recorded without an answer are read, and not recorded again', async (t) => runOnce(t, ['append']))
t.test('all of them without an answer', async (t) => runOnce(t, ['claim', 'renew', 'append']))

t.test('a retry that becomes due while its planning is being recorded is sent', async (t) => {
  const { connect, submit, readEvents, waitFor } = await startWorld(t, ['one'], (store, clock) => ({
    ...store,
    tasks: {
      ...store.tasks,
      // The pause before the retry is 50 ms.
      append: async (parts) => {
        const answers = await store.tasks.append(parts)
        if (parts.some(({ events }) => events.some(({ type }) => type === 'actionRetryPlanned'))) await new Promise<void>((resolve) => clock.after(200, resolve))
        return answers
      },
    },
  }))
  const call = connect('one', 'agent')
  await submit('t-1', { blueprint: 'retried', with: { script: 'true' } })
  await waitFor('the first attempt', () => call.orders.length === 1)
  call.result(call.orders[0]!, { outcome: 'failed', failure: { code: 'COMMAND_FAILED', message: 'no' } })
  await waitFor('the second attempt', () => call.orders.length === 2)
  call.result(call.orders[1]!)
  await waitFor('the task ends', async () => (await readEvents('t-1')).at(-1)?.event.type === 'taskEnded')
})
