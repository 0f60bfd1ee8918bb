import { spawn } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { once } from 'node:events'
import t from 'tap'
import type { Test } from 'tap'
import { eventually } from '../eventually.js'
import { startSystem } from './system.js'

const lichen = resolve(import.meta.dirname, '../../packages/cli/bin/lichen.js')

// script(1) of util-linux gives the program a real terminal.
const terminal = { skip: existsSync('/usr/bin/script') ? false : 'script(1) of util-linux is not installed' }

interface OnTerminal {
  screen(): string
  type(text: string): void
  readonly ended: Promise<number>
}

function startOnTerminal(t: Test, directory: string, args: readonly string[]): OnTerminal {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('LICHEN_') && name !== 'CI' && name !== 'NO_COLOR'))
  const child = spawn('script', ['-qec', `stty cols 100 rows 30; ${process.execPath} ${lichen} ${args.join(' ')}`, '/dev/null'], { cwd: directory, env: { ...env, TERM: 'xterm-256color' }, stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  let screen = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (screen += text))
  return { screen: () => screen, type: (text) => void child.stdin.write(text), ended: once(child, 'close').then(([code]) => code as number) }
}

t.test('on a terminal a live view moves in place, and its last picture and the summary stay', terminal, async (t) => {
  const system = await startSystem(t)
  const plan = system.plan({ first: { blueprint: 'script', with: { script: 'echo visible in the tail; until test -e go; do sleep 0.05; done' } }, second: { blueprint: 'text-file', with: { text: 'x' } } }, 'live')
  const { screen, ended } = startOnTerminal(t, system.directory, ['apply', plan])
  await eventually(t, 'the running action and the log tail are on the screen', () => /● run .*node-1/.test(screen()) && screen().includes('first/run │ visible in the tail'))
  writeFileSync(join(system.workspace, 'go'), '')
  t.equal(await ended, 0, screen())
  t.match(screen(), /\u001b\[\?25l/, 'the cursor is hidden while it moves')
  t.match(screen(), /\u001b\[\?25h/, 'and shown again')
  const stays = screen().slice(screen().lastIndexOf('apply live'))
  t.match(stays, /succeeded/)
  t.match(screen(), /✔ first .*2\/2[^]*✔ second .*2\/2/)
})

t.test('on a terminal a follower is told what to type, and approving shows what it is and asks', terminal, async (t) => {
  const system = await startSystem(t)
  const plan = system.plan({ only: { blueprint: 'text-file', with: { text: 'x' }, approve: true } }, 'asking')
  const following = startOnTerminal(t, system.directory, ['apply', plan])
  await eventually(t, 'the picture says that a person is needed', () => /waits for a person: 1 approval/.test(following.screen()))
  const [, command = ''] = /(lichen approve t-\S+ [\w/-]+)/.exec(following.screen()) ?? []
  t.match(command, /^lichen approve t-\S+ only\//, 'the command is whole')
  const [, ...args] = command.split(' ')
  const refusing = startOnTerminal(t, system.directory, args)
  await eventually(t, 'it asks', () => /Approve .*only.*, in apply asking\? \[y\/N\]/.test(refusing.screen()))
  refusing.type('n\n')
  t.equal(await refusing.ended, 2)
  t.match(refusing.screen(), /not confirmed; nothing was done/)
  const approving = startOnTerminal(t, system.directory, args)
  await eventually(t, 'it asks again', () => approving.screen().includes('[y/N]'))
  approving.type('y\n')
  t.equal(await approving.ended, 0)
  t.equal(await following.ended, 0, following.screen())
})
