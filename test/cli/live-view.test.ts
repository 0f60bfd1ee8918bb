import { spawn } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { once } from 'node:events'
import t from 'tap'
import { eventually } from '../eventually.js'
import { startSystem } from './system.js'

const lichen = resolve(import.meta.dirname, '../../packages/cli/bin/lichen.js')

// script(1) of util-linux gives the program a real terminal.
t.test('on a terminal a live view moves in place, and its last picture and the summary stay', { skip: existsSync('/usr/bin/script') ? false : 'script(1) of util-linux is not installed' }, async (t) => {
  const system = await startSystem(t)
  const plan = system.plan({ first: { blueprint: 'script', with: { script: 'echo visible in the tail; until test -e go; do sleep 0.05; done' } }, second: { blueprint: 'text-file', with: { text: 'x' } } }, 'live')
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('LICHEN_') && name !== 'CI' && name !== 'NO_COLOR'))
  const child = spawn('script', ['-qec', `stty cols 100 rows 30; ${process.execPath} ${lichen} apply ${plan}`, '/dev/null'], { cwd: system.directory, env: { ...env, TERM: 'xterm-256color' }, stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  let screen = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (screen += text))
  await eventually(t, 'the running action and the log tail are on the screen', () => /● run .*node-1/.test(screen) && screen.includes('first/run │ visible in the tail'))
  writeFileSync(join(system.workspace, 'go'), '')
  const [code] = (await once(child, 'close')) as [number]
  t.equal(code, 0, screen)
  t.match(screen, /\u001b\[\?25l/, 'the cursor is hidden while it moves')
  t.match(screen, /\u001b\[\?25h/, 'and shown again')
  const stays = screen.slice(screen.lastIndexOf('apply live'))
  t.match(stays, /succeeded/)
  t.match(screen, /✔ first .*2\/2[^]*✔ second .*2\/2/)
})
