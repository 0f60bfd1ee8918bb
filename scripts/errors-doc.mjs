// Writes docs/errors.md from the table of codes in packages/core/src/errors.ts; test/core/errors.test.ts compares the two.
import { writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { buildErrorsDocument } from '@lichen/core'

const file = join(resolve(import.meta.dirname, '..'), 'docs/errors.md')
writeFileSync(file, buildErrorsDocument())
console.log('docs/errors.md written')
