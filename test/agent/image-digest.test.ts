/** A file is read for its digest once, and again when anything tells that it may be another one. */
import { createHash } from 'node:crypto'
import { renameSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { digestFile } from '../../packages/agent/dist/primitives/openstack/image-file.js'
import type { Deadline } from '../../packages/agent/dist/run/deadline.js'
import { makeDirectory } from './agent.js'

const digestOf = (text: string): string => createHash('sha512').update(text).digest('hex')
/** By this clock a file has not changed for a while. `reason`: nothing may be read any more. */
const deadlineOf = (reason?: string): Deadline => ({ reason, message: reason ?? '', clock: { now: () => Date.now() + 60_000 } }) as unknown as Deadline

t.test('a digest is kept while the file is the same', async (t) => {
  const path = join(makeDirectory(t), 'image')
  writeFileSync(path, 'one')
  t.equal(await digestFile(path, 'sha512', deadlineOf()), digestOf('one'))
  t.equal(await digestFile(path, 'sha512', deadlineOf('over')), digestOf('one'), 'it is not read again')
  await t.rejects(digestFile(path, 'md5', deadlineOf('over')), { message: 'over' }, 'for another digest it has to be')

  const { atime, mtime } = statSync(path)
  await new Promise((resolve) => setTimeout(resolve, 20))
  writeFileSync(path, 'two')
  utimesSync(path, atime, mtime)
  t.equal(await digestFile(path, 'sha512', deadlineOf()), digestOf('two'), 'one of the same size and time is another one')

  writeFileSync(`${path}.new`, 'six')
  renameSync(`${path}.new`, path)
  t.equal(await digestFile(path, 'sha512', deadlineOf()), digestOf('six'), 'so is one that took its place')
})

t.test('a file that has just changed is read again', async (t) => {
  const path = join(makeDirectory(t), 'image')
  writeFileSync(path, 'one')
  const now = { ...deadlineOf(), clock: Date } as unknown as Deadline
  t.equal(await digestFile(path, 'sha512', now), digestOf('one'))
  await t.rejects(digestFile(path, 'sha512', deadlineOf('over')), { message: 'over' }, 'its times would not tell another change')
})

t.test('a file that is not there is told as the system does', async (t) => {
  await t.rejects(digestFile('/no/such/file', 'sha512', deadlineOf()), { code: 'ENOENT' })
})
