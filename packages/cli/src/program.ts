import { Command, CommanderError } from 'commander'
import { addBlueprintCommands } from './commands/blueprints.js'
import { addDeadLetterCommands } from './commands/dead-letters.js'
import { addEngineCommand } from './commands/engines.js'
import { addJoinTokenCommand } from './commands/join-token.js'
import { addLogCommand } from './commands/logs.js'
import { addNodeCommands } from './commands/nodes.js'
import { addOutputCommand } from './commands/output.js'
import { addOperationCommands } from './commands/operations.js'
import { addSecretCommands } from './commands/secrets.js'
import { addPreviewCommands } from './commands/preview.js'
import { addProgramCommands, runLab } from './commands/programs.js'
import { addPlanCommands } from './commands/run-plan.js'
import { addTaskCommands } from './commands/tasks.js'
import { openClient } from './api/client.js'
import type { Context } from './context.js'
import { exitCodes, type ExitCode } from './exit-codes.js'
import { CliFailure } from './failure.js'
import { countOf } from './follow/words.js'
import { readSettings } from './settings.js'
import type { Terminal } from './terminal.js'
import { printProblems } from './text/problems.js'

export interface CliInput {
  /** Without the program and its file. */
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string | undefined>>
  readonly directory: string
  readonly terminal: Terminal
  readonly stdout: NodeJS.WriteStream
  readonly version: string
}

const helpText = `
The server is found by --url, LICHEN_URL, or the directory .lichen of \`npm start\`, upwards from here.
The token comes from --token, LICHEN_TOKEN, or .lichen/admin.token.

Exit code: 0 done, 1 the task failed, 2 usage error or rejected plan, 3 no server, 4 bad token, 5 a person is needed (--exit-on-wait), 130 interrupted.

Examples:
  lichen agent --local /tmp/lichen-node     a node on this machine
  lichen apply examples/hello.yaml          run a plan and follow it
  lichen logs -f latest                     what it prints
  lichen output kubeconfig > kubeconfig     what the deployment gives
  lichen tasks show latest --timing         where the time went
  lichen tasks --waiting                    what waits for you`

/** Runs one command line to its end and gives back the exit code. Never throws for what a user can cause; messages go to stderr. */
export async function runCli(input: CliInput): Promise<ExitCode> {
  const isJson = input.args.includes('--json')
  try {
    return await runCommand(input)
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.rejected
    if (!(error instanceof CliFailure)) throw error
    printFailure(input.terminal, error, isJson)
    return error.exitCode
  }
}

async function runCommand(input: CliInput): Promise<ExitCode> {
  // The lab reads its own command line, options and all.
  if (input.args[0] === 'lab') return runLab(input.args.slice(1))
  let code: ExitCode = exitCodes.ok
  const program = new Command('lichen')
  const run = async (action: (context: Context) => Promise<ExitCode>) => {
    code = await action(buildContext(program, input))
  }
  program
    .description('Lichen grows Kubernetes and OpenStack together on Linux machines, from one deployment plan.')
    .option('--url <url>', 'server, e.g. http://127.0.0.1:8470')
    .option('--token <token>', 'bearer token; better kept in LICHEN_TOKEN')
    .option('--json', 'JSON for programs; one object a line where things come one by one')
    .configureHelp({ showGlobalOptions: true })
    .showSuggestionAfterError()
    .addHelpText('after', helpText)
  addProgramCommands(program, run)
  addPlanCommands(program, run)
  addPreviewCommands(program, run)
  addOperationCommands(program, run)
  addSecretCommands(program, run)
  addTaskCommands(program, run)
  addLogCommand(program, run)
  addOutputCommand(program, run)
  addNodeCommands(program, run)
  addEngineCommand(program, run)
  addJoinTokenCommand(program, run)
  addBlueprintCommands(program, run)
  addDeadLetterCommands(program, run)
  program
    .command('version')
    .description('Prints the version.')
    .action(() => void input.terminal.line(program.opts<{ json?: boolean }>().json ? JSON.stringify({ version: input.version }) : input.version))
  program.version(input.version, '-V, --version')
  inheritSettings(program)
  if (input.args.length === 0) program.outputHelp()
  else await program.parseAsync([...input.args], { from: 'user' })
  return code
}

// Each command of the tree answers with an exit code instead of ending the process, and shows the global options in its help.
function inheritSettings(command: Command): void {
  command.exitOverride().helpCommand(false)
  for (const child of command.commands) {
    child.copyInheritedSettings(command)
    inheritSettings(child)
  }
}

function buildContext(program: Command, input: CliInput): Context {
  const options = program.opts<{ url?: string; token?: string; json?: boolean }>()
  return {
    terminal: input.terminal,
    stdout: input.stdout,
    isJson: options.json === true,
    client: () => openClient(readSettings({ flags: options, env: input.env, directory: input.directory })),
  }
}

function printFailure(terminal: Terminal, failure: CliFailure, isJson: boolean): void {
  if (isJson) {
    terminal.note(JSON.stringify({ type: 'error', message: failure.message, code: failure.code, problems: failure.problems, hint: failure.hint }))
    return
  }
  if (failure.exitCode === exitCodes.interrupted) terminal.note(failure.message)
  else if (failure.problems.length > 0) terminal.note(`lichen: rejected, ${countOf(failure.problems.length, 'problem')}:`)
  // Codes of the system (ECONNRESET) say nothing that the message does not.
  else terminal.note(`lichen: ${failure.message}${failure.code && /^[A-Z]+(_[A-Z]+)+$/.test(failure.code) ? ` (${failure.code})` : ''}`)
  printProblems(terminal, failure.problems)
  if (failure.hint) terminal.note(`  ${failure.hint}`)
}
