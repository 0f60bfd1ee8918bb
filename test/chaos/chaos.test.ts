/**
 * The bounded form of `npm run chaos`, as its users start it. Every check and every durable write is an assertion of its own.
 */
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'

const program = resolve(import.meta.dirname, '../../scripts/chaos.mjs')

interface Report {
  readonly title: string
  readonly problems: readonly string[]
}

/** Runs it and asserts that it ends well, that it says so of at least `count` things, and of each of them. */
async function run(t: Test, count: number, ...args: readonly string[]): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'lichen-chaos-report-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  const path = join(directory, 'report.json')
  const child = spawn(process.execPath, [program, '--json', path, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  t.teardown(() => void child.kill('SIGTERM'))
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (chunk: string) => (output += chunk))
  const code = await new Promise((done) => child.once('close', done))
  const reports = existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as readonly Report[]) : []
  for (const { title, problems } of reports) t.strictSame(problems, [], title)
  t.ok(reports.length >= count, `${reports.length} things were looked at, at least ${count}`)
  t.equal(code, 0, 'it ended well')
  if (!t.passing()) t.comment(output)
}

t.test('whatever is killed, cut off or filled up while plans run, what is reported is what happened', async (t) => {
  if (process.env.CI === 'true') t.equal(process.getuid?.(), 0, 'CI runs this as root: namespaces, partitions and full disks are in it')
  await run(t, 21, '--only', 'storm', '--bounded', '--kills', '25', '--seconds', '30', '--agents', '4', '--pace-ms', '1000', '--submit-ms', '1500')
})

t.test('an agent or a server that dies right before or right after a durable write, whichever, goes on as if it had not', async (t) => {
  // One side of each in a run, by turns; `npm run chaos` takes both.
  await run(t, 36, '--only', 'points', '--bounded')
})
