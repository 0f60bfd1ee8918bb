// Generates packages/protocol/src/generated from proto/ with buf and ts-proto. With --check nothing is written: a difference is an error.
import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { tmpdir } from 'node:os'

const root = resolve(import.meta.dirname, '..')
const isCheck = process.argv.includes('--check')
const directoryOf = 'packages/protocol/src/generated/lichen/v1'
const files = ['agent.ts', 'peer.ts']
const buf = join(root, 'node_modules/.bin/buf')

execFileSync(buf, ['lint'], { cwd: join(root, 'proto'), stdio: 'inherit' })
if (!isCheck) {
  execFileSync(buf, ['generate'], { cwd: join(root, 'proto'), stdio: 'inherit' })
} else {
  const directory = mkdtempSync(join(tmpdir(), 'lichen-generate-'))
  try {
    cpSync(join(root, 'proto'), join(directory, 'proto'), { recursive: true })
    const template = readFileSync(join(root, 'proto/buf.gen.yaml'), 'utf8')
      .replace('../node_modules/.bin', join(root, 'node_modules/.bin'))
      .replace('../packages/protocol/src/generated', join(directory, 'out'))
    execFileSync(buf, ['generate', '--template', template], { cwd: join(directory, 'proto'), stdio: 'inherit' })
    for (const file of files) {
      if (readFileSync(join(directory, 'out/lichen/v1', file), 'utf8') === readFileSync(join(root, directoryOf, file), 'utf8')) continue
      console.error(`${directoryOf}/${file} is not what proto/ generates: run npm run generate and commit the result`)
      process.exit(1)
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}
