import { setImmediate as nextTurn } from 'node:timers/promises'
import t from 'tap'
import { PackageLock, type PackagePlace } from '../../packages/agent/dist/run/package-lock.js'

t.test('packages are changed in the order in which places were taken, by one at a time', async (t) => {
  const lock = new PackageLock()
  const entered: string[] = []
  const enter = (name: string, place: PackagePlace) => void place.enter().then(() => entered.push(name))
  const [first, second, third] = [lock.queue(), lock.queue(), lock.queue()]
  enter('third', third)
  enter('second', second)
  await nextTurn()
  t.same(entered, [], 'the first one still looks whether it has anything to change')
  enter('first', first)
  await nextTurn()
  t.same(entered, ['first'])
  first.leave()
  first.leave()
  await nextTurn()
  t.same(entered, ['first', 'second'])
  second.leave()
  await nextTurn()
  t.same(entered, ['first', 'second', 'third'])
})

t.test('who leaves without having entered lets nobody in beside who is there', async (t) => {
  const lock = new PackageLock()
  const leaveFirst = await lock.enter()
  const second = lock.queue()
  let hasEntered = false
  const third = lock.enter().then((leave) => {
    hasEntered = true
    leave()
  })
  second.leave()
  await nextTurn()
  t.notOk(hasEntered)
  leaveFirst()
  await third
  t.ok(hasEntered)
})
