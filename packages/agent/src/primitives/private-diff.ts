/**
 * The difference between a file with secrets and what it should be, as a diff without any. The secrets of the order are known and are masked; what is on the disk may hold others, that were valid
 * before a rotation or that a person has put there. So a line of the disk is shown for what is known of it, not because nothing is known against it:
 *
 * 1. A wanted line is shown with `***` for each secret. Its value is hidden when its name or form is one of a secret and no secret of the order is in it: a password given in the plan, or one
 *    that is too short to be masked.
 * 2. A present line is shown whole when a wanted line that is shown whole is identical.
 * 3. Its value is shown too when its name is in the same section of the wanted content, nowhere holds a secret there and is not one for secrets, and the value is of one line and does not look
 *    like one with a secret (credentials of a URL, a comment, braces).
 * 4. Of any other, the name is shown if it is known or made of words. What has no name is hidden: comments, parts of values of several lines, keys in armour.
 * 5. There is no diff when lines cannot be told apart: JSON, a secret outside of a value, a quotation that goes on in the next line.
 */
import { hasStandIn } from '@lichen/core'
import type { Masker } from '../output/masker.js'
import { type ConfigLine, opensQuotation, parseConfigLines, parseNested } from './config-lines.js'

type Option = Extract<ConfigLine, { kind: 'option' }>
type Mask = (text: string) => string

/** What is known of the wanted content. */
interface Known {
  /** Its lines as they are shown. */
  readonly shown: readonly string[]
  /** Lines that may be shown wherever they stand. */
  readonly harmless: ReadonlySet<string>
  readonly harmlessNames: ReadonlySet<string>
  readonly secretNames: ReadonlySet<string>
  readonly names: ReadonlySet<string>
}

const hidden = '(not shown)'

/** A unified diff from the present to the wanted text in which no secret is; undefined when there can be none (5.), or it would take too long. */
export async function buildPrivateDiff(path: string, present: string, wanted: string, masker: Pick<Masker, 'maskText'>): Promise<string | undefined> {
  if ([present, wanted].some((text) => text.trimStart().startsWith('{'))) return undefined
  const mask: Mask = (text) => masker.maskText(text)
  const known = learn(parseConfigLines(wanted), mask)
  const presentLines = parseConfigLines(present)
  if (known === undefined || presentLines.some(({ text }) => !/^\s*[#;]/.test(text) && opensQuotation(text))) return undefined
  const shownPresent = showPresent(presentLines, known, mask)
  const { FILE_HEADERS_ONLY, formatPatch, structuredPatch } = await import('diff')
  const patch = structuredPatch(path, path, present, wanted, undefined, undefined, { context: 3, timeout: 500 })
  if (patch === undefined) return undefined
  for (const hunk of patch.hunks) {
    let before = hunk.oldStart - 1
    let after = hunk.newStart - 1
    hunk.lines = hunk.lines.map((line) => {
      if (line.startsWith('\\')) return line
      if (line.startsWith('-')) return `-${shownPresent[before++]}`
      if (line.startsWith(' ')) before++
      return `${line[0]}${known.shown[after++]}`
    })
  }
  return formatPatch(patch, FILE_HEADERS_ONLY)
}

/** What the wanted content says; undefined when a secret stands where it cannot be told from what is around it. */
function learn(lines: readonly ConfigLine[], mask: Mask): Known | undefined {
  const isSecret = lines.map(({ text }) => mask(text) !== text || hasStandIn(text))
  if (!lines.some(({ kind }) => kind === 'option') || lines.some((line, index) => isSecret[index] && !isInValue(line, lines, mask))) return undefined
  // Of a secret of several lines the short ones are not masked.
  const ofSeveralLines = new Set(lines.filter((line, index) => isSecret[index] && (line.kind === 'option' || parseNested(line.text) === undefined)).map(({ entry }) => entry))
  const shown = lines.map((line, index) => showWanted(line, { isSecret: isSecret[index]!, isOfSeveralLines: ofSeveralLines.has(line.entry) }, mask))
  const isHarmless = lines.map(({ text }, index) => !isSecret[index] && shown[index] === text)
  const others = lines.filter((_line, index) => !isHarmless[index])
  const otherTexts = new Set(others.map(({ text }) => text))
  return {
    shown,
    harmless: new Set(lines.map(({ text }) => text).filter((text) => !otherTexts.has(text))),
    harmlessNames: new Set(lines.flatMap((line, index) => (line.kind === 'option' && isHarmless[index] ? [nameInSection(line)] : []))),
    secretNames: new Set(others.flatMap((line) => [line, lines[line.entry]!].flatMap(namesOf)).map(normalize)),
    names: new Set(lines.flatMap((line) => (line.kind === 'option' ? [line.name] : []))),
  }
}

function isInValue(line: ConfigLine, lines: readonly ConfigLine[], mask: Mask): boolean {
  if (line.kind === 'option') return mask(line.head) === line.head
  return line.kind === 'comment' || (line.kind === 'rest' && (lines[line.entry]!.kind === 'option' || namesOf(line).some((name) => mask(name) === name)))
}

function showWanted(line: ConfigLine, { isSecret, isOfSeveralLines }: { readonly isSecret: boolean; readonly isOfSeveralLines: boolean }, mask: Mask): string {
  if (line.kind === 'rest') return isOfSeveralLines || (!isSecret && looksSecret(parseNested(line.text))) ? hideAll(line) : mask(line.text)
  return line.kind === 'option' && !isSecret && line.value !== '' && (isOfSeveralLines || looksSecret(line)) ? hideValue(line) : mask(line.text)
}

function showPresent(lines: readonly ConfigLine[], known: Known, mask: Mask): string[] {
  const ofSeveralLines = new Set(lines.flatMap(({ kind, entry }, index) => (kind !== 'blank' && entry !== index ? [entry] : [])))
  return lines.map((line, index) => {
    if (line.kind === 'blank' || known.harmless.has(line.text)) return line.text
    if (line.kind === 'option') return showOption(line, { isOfSeveralLines: ofSeveralLines.has(index), known, mask })
    if (line.kind === 'comment') return `${line.text[0]} ${hidden}`
    if (line.kind === 'section') return isOfWords(/^\[([\w.:-]+)\]\s*$/.exec(line.text)?.[1] ?? '') ? line.text : `[${hidden}]`
    return hideAll(line)
  })
}

function showOption(line: Option, { isOfSeveralLines, known, mask }: { readonly isOfSeveralLines: boolean; readonly known: Known; readonly mask: Mask }): string {
  const isKnown = known.names.has(line.name)
  const isHarmless = known.harmlessNames.has(nameInSection(line)) && !known.secretNames.has(normalize(line.name)) && !looksSecret(line) && !isOpaque(line.value) && mask(line.text) === line.text
  if ((isHarmless && !isOfSeveralLines) || (isKnown && line.value === '')) return line.text
  // What looks like a name without a value may be the end of a key in base64.
  return isKnown || (isOfWords(line.name) && !/^=*$/.test(line.value)) ? hideValue(line) : hidden
}

const hideValue = ({ head }: Option): string => `${head}${hidden}`
const hideAll = ({ text }: ConfigLine): string => `${/^[ \t]*/.exec(text)![0]}${hidden}`
const nameInSection = ({ section, name }: Option): string => `${section}\n${name}`
const namesOf = (line: ConfigLine): string[] => [line.kind === 'option' ? line : parseNested(line.text)].flatMap((named) => named?.name ?? [])
/** oslo takes `-` for `_`. */
const normalize = (name: string): string => name.toLowerCase().replaceAll('-', '_')

const secretWords = 'pass(?:word|wd|phrase|code)?|secret|token|credential|cookie|api_?key|auth_?key'
const shortSecretWords = 'key|pwd|pw|pin|psk|cred|auth|salt'
const secretName = new RegExp(`(?:${secretWords}|(?:^|[._-])(?:${shortSecretWords}))s?(?:[._-]?(?:hash|value|text|plain|data|old|new|base64|b64|hex))?[._-]?\\d{0,9}$`, 'i')
const secretArgument = new RegExp(`(?:${secretWords}|\\b(?:${shortSecretWords}|bearer|basic))[\\w-]{0,40}["']?(?:\\s*[:=]|\\s+\\S)`, 'i')

/** Whether one would expect a secret there: by the name of the option, or by `user:password@host`, `--password x` or `password=x` in the value. */
function looksSecret(named: { readonly name: string; readonly value: string } | undefined): boolean {
  // Nobody's password is "true", and `send_service_user_token` is no token.
  if (named === undefined || /^(?:true|false|yes|no|on|off|none|)$/i.test(named.value)) return false
  const { name, value } = named
  const colon = value.indexOf(':')
  return secretName.test(name.replace(/([a-z\d])([A-Z])/g, '$1_$2')) || (colon >= 0 && value.includes('@', colon)) || secretArgument.test(value)
}

/** Whether a value may hold more than it seems to: a structure, a comment behind it, a key in armour, characters that a terminal does not show. */
const isOpaque = (value: string): boolean => /[{}\p{Cc}]|(?:^|\s)(?:[#;]|\/\/)|----/u.test(value)

const word = /^(?:[a-z]{1,20}|[A-Z]{1,20}|[A-Z]?[a-z]{2,20}(?:[A-Z][a-z]{2,20}){0,4}|)\d{0,3}$/
/** Whether a text is made of words, as names are and keys are not: `rpc_response_timeout`, `OS_REGION_NAME`, `rotateCertificates`, `ml2`. */
const isOfWords = (text: string): boolean => text !== '' && text.length <= 80 && text.split(/[._:-]/).every((part) => word.test(part))
