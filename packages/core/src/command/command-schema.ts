/**
 * Commands: the effects an agent can bring about on its node. One schema for each kind serves the blueprint linter, the planner and the
 * agent. A command is fully resolved when it reaches the node: no template, no expression, no reference is left in it.
 *
 * Every kind is check → do → verify. Check mode stops after the check and reports what would change, with a diff where there is one.
 */
import { Type, type Static, type TObject } from '@sinclair/typebox'
import { compileCheck } from '../compiled-check.js'
import { OpenstackSchema } from './openstack-schema.js'

const strict = { additionalProperties: false } as const
const AbsolutePath = Type.String({ pattern: '^/', description: 'Absolute path on the node.' })
const Mode = Type.String({ pattern: '^0?[0-7]{3,4}$', description: 'Octal mode as text, e.g. "0640".' })
const Argv = Type.Array(Type.String(), { minItems: 1, description: 'Program and arguments; never a shell.' })
const Environment = Type.Record(Type.String({ pattern: '^[A-Za-z_][A-Za-z0-9_]*$' }), Type.String(), strict)

/** Debian packages present (or absent), at given versions if asked. Check: dpkg database. Waits for the dpkg lock. */
export const PackageSchema = Type.Object(
  {
    names: Type.Array(Type.String({ pattern: '^[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+~:-]+)?$' }), { minItems: 1, description: 'Package names, with `=version` to ask for one.' }),
    state: Type.Optional(Type.Union([Type.Literal('present'), Type.Literal('absent'), Type.Literal('purged')])),
    onlyMissing: Type.Optional(Type.Boolean({ description: 'Leave packages that are installed in any version as they are; the version asked for counts for those that are missing. Default: false.' })),
    held: Type.Optional(Type.Boolean({ description: 'Mark as held, so that an upgrade of the system leaves it alone.' })),
    recommends: Type.Optional(Type.Boolean({ description: 'Install recommended packages too. Default: false.' })),
    startServices: Type.Optional(Type.Boolean({ description: 'Let the packages start their services at installation. Default: false: services start when a `service` command says so.' })),
    debconf: Type.Optional(Type.Array(Type.String(), { description: 'Lines for debconf-set-selections, given before the installation.' })),
  },
  strict,
)
/**
 * An apt repository that the node trusts for this key alone, with its lists fetched. Check: apt's own files and lists. Debian packages of later `package` commands may come from it.
 * `/etc/apt/sources.list.d/NAME.sources` and `/etc/apt/keyrings/NAME.asc` are its files.
 */
export const RepositorySchema = Type.Object(
  {
    repository: Type.String({ pattern: '^[a-z0-9][a-z0-9.-]{0,63}$', description: 'Its name on the node: that of its files.' }),
    state: Type.Optional(Type.Union([Type.Literal('present'), Type.Literal('absent')])),
    url: Type.Optional(Type.String({ pattern: '^(https?|file):/[^\\s]+$', description: 'Where it begins. Needed when it is to be present, as are `suite` and `key`.' })),
    suite: Type.Optional(Type.String({ pattern: '^[A-Za-z0-9./_+~-]+$', description: 'The suite; ends with a slash when the repository is flat, e.g. `./`.' })),
    components: Type.Optional(Type.Array(Type.String({ pattern: '^[A-Za-z0-9./_+~-]+$' }), { description: 'Its components, e.g. `main`; none when it is flat.' })),
    key: Type.Optional(Type.String({ description: 'The OpenPGP public key that signs it, ASCII-armoured.' })),
  },
  strict,
)
/** A regular file with this content, mode and owner; written atomically, with a diff in check mode. */
export const FileSchema = Type.Object(
  {
    path: AbsolutePath,
    content: Type.Optional(Type.String({ description: 'Whole content. Exactly one of `content` and `state: absent` is given.' })),
    state: Type.Optional(Type.Union([Type.Literal('present'), Type.Literal('absent')])),
    mode: Type.Optional(Mode),
    owner: Type.Optional(Type.String()),
    group: Type.Optional(Type.String()),
    secret: Type.Optional(Type.Boolean({ description: 'It holds secrets: diffs show the options that differ, and no value that may be one.' })),
  },
  strict,
)
/** A directory with mode and owner, or its absence (`recursive` removes what is in it). */
export const DirectorySchema = Type.Object(
  {
    path: AbsolutePath,
    state: Type.Optional(Type.Union([Type.Literal('present'), Type.Literal('absent')])),
    mode: Type.Optional(Mode),
    owner: Type.Optional(Type.String()),
    group: Type.Optional(Type.String()),
    recursive: Type.Optional(Type.Boolean()),
  },
  strict,
)
/** A system user, with its primary group. */
export const UserSchema = Type.Object(
  {
    user: Type.String({ pattern: '^[a-z_][a-z0-9_-]{0,31}$' }),
    state: Type.Optional(Type.Union([Type.Literal('present'), Type.Literal('absent')])),
    system: Type.Optional(Type.Boolean()),
    home: Type.Optional(AbsolutePath),
    shell: Type.Optional(AbsolutePath),
    groups: Type.Optional(Type.Array(Type.String(), { description: 'Supplementary groups it must be in.' })),
  },
  strict,
)
/**
 * A systemd unit running (or stopped) and enabled (or not). `restartOn` names files: the unit must have been started after each of
 * them last changed, so a restart that a crash prevented is made up for later. `reloadOn` names files that it reads again when it is
 * told to (`systemctl reload`), without letting go of its clients.
 */
export const ServiceSchema = Type.Object(
  {
    unit: Type.String({ minLength: 1 }),
    state: Type.Optional(Type.Union([Type.Literal('running'), Type.Literal('stopped')])),
    enabled: Type.Optional(Type.Boolean()),
    restartOn: Type.Optional(Type.Array(AbsolutePath)),
    reloadOn: Type.Optional(Type.Array(AbsolutePath)),
  },
  strict,
)
/** A program run once, for an effect that no other kind describes. */
export const RunSchema = Type.Object(
  {
    argv: Type.Optional(Argv),
    shell: Type.Optional(Type.String({ description: 'A script for /bin/bash -euo pipefail, when a shell is really meant. Exactly one of `argv` and `shell`.' })),
    env: Type.Optional(Environment),
    cwd: Type.Optional(AbsolutePath),
    user: Type.Optional(Type.String()),
    stdin: Type.Optional(Type.String()),
    creates: Type.Optional(Type.String({ description: 'A path: if it exists, the effect is there.' })),
    unless: Type.Optional(Type.Union([Argv, Type.String()], { description: 'A check (argv, or text for a shell): exit code 0 means the effect is there.' })),
    verify: Type.Optional(Type.Union([Argv, Type.String()], { description: 'Run after the program, and as the check when there is no `unless`: exit code 0 means the effect is there.' })),
    uncheckable: Type.Optional(Type.Boolean({ description: 'Says that the effect cannot be checked: it ends `unknown` when interrupted.' })),
    reboots: Type.Optional(Type.Boolean({ description: 'The program reboots the node: the effect is there when the node has started anew, and the checks, if there are any, say so too.' })),
    okExitCodes: Type.Optional(Type.Array(Type.Integer({ minimum: 0, maximum: 255 }))),
    outputs: Type.Optional(
      Type.Record(
        Type.String({ pattern: '^[A-Za-z][A-Za-z0-9]*$' }),
        Type.Object(
          {
            from: Type.Union([Type.Literal('stdout'), Type.Literal('file')]),
            path: Type.Optional(AbsolutePath),
            secret: Type.Optional(Type.Boolean({ description: 'Stored encrypted and masked in all output.' })),
          },
          strict,
        ),
        { ...strict, description: 'What later actions can use: whole stdout (trimmed) or the content of a file, 64 KiB at most.' },
      ),
    ),
  },
  strict,
)
/** Waits until something answers; has no effect of its own, so it also runs in check mode. */
export const ProbeSchema = Type.Object(
  {
    tcp: Type.Optional(Type.Object({ host: Type.String(), port: Type.Integer({ minimum: 1, maximum: 65535 }) }, strict)),
    http: Type.Optional(
      Type.Object(
        {
          url: Type.String({ pattern: '^https?://' }),
          codes: Type.Optional(Type.Array(Type.Integer({ minimum: 100, maximum: 599 }), { description: 'Accepted codes. Default: any below 400.' })),
          bodyIncludes: Type.Optional(Type.String()),
        },
        strict,
      ),
    ),
    command: Type.Optional(Argv),
    prints: Type.Optional(Type.Boolean({ description: 'What the command prints goes to the task log, each time it is asked. Default: only the end of it, when it does not answer as asked.' })),
    intervalMs: Type.Optional(Type.Integer({ minimum: 50, maximum: 600_000, description: 'Default: 500.' })),
    deadlineMs: Type.Optional(Type.Integer({ minimum: 0, maximum: 86_400_000, description: 'How long to keep trying. Default: 60,000. 0: a condition, which is asked once. In check mode one try is made.' })),
    prerequisite: Type.Optional(Type.Boolean({ description: 'It has to hold before what comes after it is done, and need not hold for ever: of an action that is unchanged it is not asked.' })),
  },
  { ...strict, description: 'Exactly one of `tcp`, `http`, `command`.' },
)
/** An archive fetched, compared with its digest, and unpacked once. */
export const ArchiveSchema = Type.Object(
  {
    url: Type.String({ pattern: '^(https?|file)://' }),
    sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
    destination: AbsolutePath,
    stripComponents: Type.Optional(Type.Integer({ minimum: 0, maximum: 10 })),
    owner: Type.Optional(Type.String()),
  },
  strict,
)
/** Prints a line to the task log and has no other effect; the empty action of tests and benchmarks. */
export const NoteSchema = Type.Object({ text: Type.String() }, strict)

/** Every kind and the schema of its spec. */
export const commandSchemas = {
  package: PackageSchema,
  repository: RepositorySchema,
  file: FileSchema,
  directory: DirectorySchema,
  user: UserSchema,
  service: ServiceSchema,
  run: RunSchema,
  probe: ProbeSchema,
  archive: ArchiveSchema,
  openstack: OpenstackSchema,
  note: NoteSchema,
} as const satisfies Record<string, TObject>

export type CommandKind = keyof typeof commandSchemas

const commandChecks = Object.fromEntries(Object.entries(commandSchemas).map(([kind, schema]) => [kind, compileCheck(schema)])) as Record<CommandKind, (spec: unknown) => boolean>

/** Whether the value is a spec of this kind. */
export const isCommandSpec = (kind: CommandKind, spec: unknown): boolean => commandChecks[kind](spec)

/** The spec of one kind of command. */
export type CommandSpec<Kind extends CommandKind> = Static<(typeof commandSchemas)[Kind]>

/** One checkable effect on a node. `timeoutMs` bounds check, do and verify together. */
export type Command = {
  [Kind in CommandKind]: { readonly name: string; readonly kind: Kind; readonly timeoutMs: number; readonly spec: CommandSpec<Kind> }
}[CommandKind]

/** Default time limit of a command: an apt installation on a slow mirror takes minutes, a hung one should not take an hour. */
export const defaultCommandTimeoutMs = 600_000
