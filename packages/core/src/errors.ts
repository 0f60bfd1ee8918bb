/**
 * The one error class and the one table of codes. Codes are public: never renamed, never reused.
 * Four kinds that never mix (see docs/errors.md): `rejected` is the caller's mistake, `unavailable` is a broker, store or agent out of
 * reach, `bug` cannot happen. Outcomes of work are values, not errors, but their codes stand here too, as kind `outcome`.
 */

/** What kind of trouble a code stands for; decides whether a retry makes sense and which HTTP status answers it. */
export type ErrorKind = 'rejected' | 'outcome' | 'unavailable' | 'bug'

export interface ErrorEntry {
  readonly kind: ErrorKind
  /** HTTP status used when this error answers a request. */
  readonly http: number
  /** One line for docs/errors.md: what it means and what to do. */
  readonly meaning: string
}

const rejected = (meaning: string, http = 422): ErrorEntry => ({ kind: 'rejected', http, meaning })
const outcome = (meaning: string): ErrorEntry => ({ kind: 'outcome', http: 200, meaning })
const unavailable = (meaning: string): ErrorEntry => ({ kind: 'unavailable', http: 503, meaning })
const bug = (meaning: string): ErrorEntry => ({ kind: 'bug', http: 500, meaning })

/** Every code this system can answer with. */
export const errorTable = {
  // plans
  PLAN_SYNTAX: rejected('The document is not well-formed YAML or JSON.', 400),
  PLAN_TOO_LARGE: rejected('The document, or the number of its components or nodes, is above the limit.', 413),
  PLAN_SHAPE: rejected('A field is missing, unknown or of the wrong type.'),
  PLAN_RESERVED_NAME: rejected('A component has a name that Lichen keeps for itself.'),
  PLAN_DUPLICATE_NAME: rejected('Two components or two node groups share a name.'),
  PLAN_UNKNOWN_BLUEPRINT: rejected('No blueprint of this name and version range is in the catalog.'),
  PLAN_UNKNOWN_GROUP: rejected('`on` names a node group that the plan does not have.'),
  PLAN_UNKNOWN_COMPONENT: rejected('`uses` or `after` names a component that the plan does not have.'),
  PLAN_BAD_PARAMETER: rejected('A parameter does not satisfy the JSON Schema of its blueprint.'),
  PLAN_RULE_BROKEN: rejected('A rule of the blueprint does not hold for these parameters.'),
  PLAN_UNKNOWN_RELATION: rejected('`uses` names a relation that the blueprint does not require.'),
  PLAN_MISSING_RELATION: rejected('A relation that the blueprint requires is not bound.'),
  PLAN_WRONG_INTERFACE: rejected('The component used does not provide the interface that the relation needs.'),
  PLAN_CYCLE: rejected('Components depend on each other in a circle.'),
  PLAN_CANNOT_LEAVE: rejected('What leaves the deployment cannot be taken away: the plan that it was applied with does not fit the catalog any more.'),
  PLAN_NODE_TAKEN: rejected('Something of a node that a component needs for itself belongs to another component, of this or of another deployment.', 409),
  PLAN_TOO_FEW_NODES: rejected('Fewer nodes match the selector of a group than its count asks for.'),
  PLAN_EXPRESSION: rejected('An expression (CEL) of the blueprint could not be evaluated with these inputs.'),
  PLAN_TEMPLATE: rejected('A template (Liquid) of the blueprint could not be rendered with these inputs.'),
  // operations
  OPERATION_NO_DEPLOYMENT: rejected('No apply of a deployment of this name was ever planned.', 404),
  OPERATION_DESTROYED: rejected('The deployment was destroyed; there is nothing to operate on.', 409),
  OPERATION_UNKNOWN: rejected('No component of the deployment has an operation of this name.'),
  OPERATION_UNKNOWN_COMPONENT: rejected('A component that is named is not of the deployment, or does not have the operation.'),
  OPERATION_UNKNOWN_NODE: rejected('A node that is named is not of the deployment, or the operation does nothing there.'),
  OPERATION_BAD_PARAMETER: rejected('A parameter does not satisfy the JSON Schema of the operation.'),
  // secrets
  SECRET_UNKNOWN: rejected('A secret that is named is not of the deployment, or it has none that can be rotated.'),
  SECRET_FIXED: rejected('A secret that is named keeps its value: something is encrypted with it.'),
  // blueprints
  BLUEPRINT_SYNTAX: rejected('The blueprint is not well-formed YAML.'),
  BLUEPRINT_SHAPE: rejected('A field of the blueprint is missing, unknown or of the wrong type.'),
  BLUEPRINT_SCHEMA: rejected('The parameters of the blueprint are no valid JSON Schema.'),
  BLUEPRINT_EXPRESSION: rejected('An expression (CEL) of the blueprint does not parse.'),
  BLUEPRINT_TEMPLATE: rejected('A template (Liquid) of the blueprint does not parse or is missing.'),
  BLUEPRINT_COMMAND: rejected('A command of the blueprint is malformed, or cannot be checked and does not say so.'),
  BLUEPRINT_REFERENCE: rejected('The blueprint refers to an action, relation or interface that it does not have.'),
  CATALOG_UNREADABLE: rejected('The catalog cannot be read, or a blueprint in it has problems; the server does not start.'),
  // requests (api)
  REQUEST_SHAPE: rejected('A parameter, header or body of the request is missing or of the wrong type.', 400),
  REQUEST_NOT_FOUND: rejected('No resource with this id or at this path.', 404),
  REQUEST_UNAUTHENTICATED: rejected('The bearer token is missing, unknown or expired.', 401),
  REQUEST_IDEMPOTENCY_CONFLICT: rejected('The Idempotency-Key was used before with another body.', 409),
  REQUEST_CONFLICT: rejected('The resource is in a state that does not allow this.', 409),
  REQUEST_MEDIA_TYPE: rejected('The body has a content type that this endpoint does not read.', 415),
  PREVIEW_MOVED: rejected('The inputs of the preview have moved since; make a new one.', 409),
  API_BUSY: unavailable('More streams are open than this server serves at once; come back in some seconds.'),
  // store and broker
  STORE_UNAVAILABLE: unavailable('The store cannot be reached or refuses to write.'),
  STORE_CONFLICT: bug('Another writer was first; the caller reads again. Never leaves the server.'),
  STORE_SCHEMA: bug('The database was written by a newer version of Lichen.'),
  STORE_UNSUPPORTED: rejected('The URL of the store names a kind of database that this version cannot use.', 400),
  BROKER_UNAVAILABLE: unavailable('RabbitMQ cannot be reached or did not confirm.'),
  BROKER_MAILBOX_TAKEN: rejected('Another engine of this name is connected to the broker.', 409),
  BROKER_BAD_URL: rejected('The URL of the broker is not one of AMQP.', 400),
  BROKER_MALFORMED_MESSAGE: outcome('A message on a queue could not be read; it is kept among the dead letters.'),
  // requests about tasks
  TASK_ENDED: rejected('The task has ended; what was asked for needs a task that runs.', 409),
  TASK_NOT_ENDED: rejected('The task has not ended yet; only an ended task is tried again.', 409),
  TASK_NOT_PAUSED: rejected('The task is not paused.', 409),
  TASK_UNKNOWN_GATE: rejected('The task has no gate of this id, or none that waits.', 404),
  TASK_GATE_NOT_WAITING: rejected('The gate does not wait for an approval: it is open already, or what comes before it is not complete.', 409),
  TASK_UNKNOWN_ACTION: rejected('The task has no action of this id.', 404),
  TASK_NOT_UNKNOWN: rejected('The outcome of the action is not unknown, or somebody has settled it already.', 409),
  TASK_UNKNOWN_NODE: rejected('The task has no action on a node of this name.'),
  TASK_NOTHING_TO_RETRY: rejected('Every action, or every one on the nodes named, has succeeded.', 409),
  TASK_SUPERSEDED: rejected('A newer task of the deployment has changed, or is to change, what this one would do again.', 409),
  TASK_INPUTS_MOVED: rejected('The new parameters change actions that have succeeded, or which actions there are; apply the plan anew instead.', 409),
  // requests about deployments
  DEPLOYMENT_UNKNOWN: rejected('No task of a deployment of this name is known in the project.', 404),
  OUTPUT_UNKNOWN: rejected('The deployment has no output of this component and name.', 404),
  OUTPUT_NOT_READY: rejected('No apply of the deployment got as far as giving the output; the message says what it waits for.', 409),
  OUTPUT_GONE: rejected('The deployment was destroyed, and its outputs are gone with it.', 404),
  // tasks and attempts (outcomes)
  TASK_LIMIT: outcome('The time limit of the task was over; it was cancelled.'),
  ACTION_LIMIT: outcome('The time limit of the action, over all its attempts, was over.'),
  ACTION_QUEUED_TOO_LONG: outcome('The action could begin, and did not within the time that the plan allows for waiting.'),
  ACTION_SETTLED: outcome('A person said that the action, whose outcome was unknown, failed.'),
  TASK_PLAN_REJECTED: outcome('The plan no longer fits the catalog or the nodes when its turn came; the task ended without touching a node.'),
  ACTION_FAILED: outcome('The node reported that the action did not succeed, and gave no reason.'),
  ACTION_NO_ANSWER: outcome('The node did not answer before the deadline of the attempt; whether the effect happened is unknown.'),
  ACTION_NODE_LOST: outcome('The node stayed out of reach longer than the action may wait.'),
  ACTION_REFERENCE: outcome('A secret or an output that the action needs does not exist.'),
  // agents and joining
  JOIN_TOKEN_INVALID: rejected('The join token is malformed or unknown.', 401),
  JOIN_TOKEN_EXPIRED: rejected('The join token has expired or has no uses left.', 401),
  JOIN_CA_MISMATCH: rejected('The gateway shows another certificate authority than the join token pins.', 401),
  JOIN_BAD_REQUEST: rejected('The certificate request is malformed or is not signed by its own key.', 400),
  AGENT_UNAUTHENTICATED: rejected('The connection shows no certificate of a node of this deployment.', 401),
  JOIN_NAME_TAKEN: rejected('Another node has joined under this name.', 409),
  AGENT_CLONED: rejected('Another agent shows the certificate of this node and is alive: one of the two is a copy. Delete the data directory of the copy and join it with a token.', 409),
  AGENT_UNREACHABLE: unavailable('The node has no open stream.'),
  ORDER_UNSIGNED: outcome('The order has no valid signature for this node; nothing was run.'),
  ORDER_STALE_EPOCH: outcome('The order carries a lower epoch than the node has seen for the task; nothing was run.'),
  ORDER_EXPIRED: outcome('The order came after its expiry; nothing was run.'),
  ORDER_MALFORMED: outcome('The order or one of its commands could not be read; nothing was run.'),
  ORDER_NOT_JOURNALED: outcome('The disk of the node has no room for the order in its journal; nothing was run.'),
  AGENT_DATA_IN_USE: rejected('Another agent runs on the same data directory.', 409),
  AGENT_DISK_FULL: unavailable('The agent cannot start: its disk has no room for what it must write before it can do anything.'),
  AGENT_CONFIG: rejected('The configuration file of the agent is missing, malformed, or has a wrong field.', 400),
  // commands (outcomes on the node)
  COMMAND_FAILED: outcome('The command failed for a reason that has no code of its own; the message has the error of the system.'),
  COMMAND_BAD_SPEC: outcome('The command asks for something that contradicts itself; the blueprint is wrong.'),
  COMMAND_TIMED_OUT: outcome('The time limit of the command or of its attempt was over; its processes were ended.'),
  COMMAND_CANCELLED: outcome('The attempt was cancelled; its processes were ended.'),
  COMMAND_INTERRUPTED: outcome('The agent or the node stopped while the command ran, and it cannot be checked: whether it took effect is unknown.'),
  COMMAND_NOT_VERIFIED: outcome('The command ended without an error, but its check does not find the effect.'),
  COMMAND_NOT_STARTED: outcome('The program of the command could not be started.'),
  COMMAND_EXIT_CODE: outcome('A program ended with an exit code that is not accepted; the message has its last lines.'),
  COMMAND_OUTPUT: outcome('An output of the command could not be had: it is too long, or its file is not there.'),
  COMMAND_USER_UNKNOWN: outcome('The node has no user or group of this name.'),
  COMMAND_CONFLICT: outcome('Something else stands in the way at the path.'),
  COMMAND_DISK_FULL: outcome('A disk of the node is full.'),
  COMMAND_CONFINED: outcome('The agent is confined to a directory and refuses effects outside of it.'),
  COMMAND_PACKAGE_UNKNOWN: outcome('The apt sources of the node have no package of this name or version.'),
  COMMAND_PACKAGE_FAILED: outcome('apt or dpkg failed; the message has the last lines.'),
  COMMAND_REPOSITORY_UNREACHABLE: outcome('The apt repository does not answer, or has nothing there; the message has what apt said.'),
  COMMAND_REPOSITORY_UNTRUSTED: outcome('The apt repository is not signed by the key given, or its signature is out of date (or the clock of the node is wrong).'),
  COMMAND_SYSTEMD: outcome('systemd on the node could not be asked.'),
  COMMAND_UNIT_UNKNOWN: outcome('systemd has no unit of this name.'),
  COMMAND_SERVICE_FAILED: outcome('The unit did not start, stop or stay up; the message has its last lines in the journal.'),
  COMMAND_PROBE_DEADLINE: outcome('Nothing answered as asked before the deadline of the probe.'),
  COMMAND_CONDITION: outcome('What has to hold does not: too little memory, a port that is taken, a device that is missing. The message says all of it; it is asked once, and nothing waits for it to become true.'),
  COMMAND_FETCH_FAILED: outcome('The archive or image could not be fetched.'),
  COMMAND_DIGEST_MISMATCH: outcome('The archive or image has another SHA-256 than asked for; it was not used.'),
  COMMAND_UNPACK_FAILED: outcome('The archive could not be unpacked.'),
  COMMAND_OPENSTACK_UNREACHABLE: outcome('An OpenStack API does not answer, or only with errors of its own (5xx), or is none.'),
  COMMAND_OPENSTACK_CREDENTIALS: outcome('The identity service gives no token for this user, password and project.'),
  COMMAND_OPENSTACK_NO_ENDPOINT: outcome('The service catalogue has no such service, or not in this region or for this interface; the message names what it has.'),
  COMMAND_OPENSTACK_FORBIDDEN: outcome('The policy of the cloud does not allow this to the user.'),
  COMMAND_OPENSTACK_QUOTA: outcome('A quota of the project is used up.'),
  COMMAND_OPENSTACK_CONFLICT: outcome('Something else in the cloud stands in the way: it is in use, or the name or address is taken.'),
  COMMAND_OPENSTACK_REFUSED: outcome('An OpenStack API refuses what it was asked for; the message has its words.'),
  COMMAND_OPENSTACK_AMBIGUOUS: outcome('The cloud has several of one name where one was meant; the message has their ids.'),
  COMMAND_OPENSTACK_NOT_FOUND: outcome('What a resource refers to by its name is not in the cloud.'),
  COMMAND_OPENSTACK_FIXED: outcome('A resource is there with a property that cannot be changed afterwards; it must be removed first.'),
  COMMAND_OPENSTACK_IMAGE: outcome('The file is not there, or is no image of the format asked for; nothing was uploaded.'),
  // lab (throwaway nodes)
  LAB_NOT_ROOT: rejected('Making nodes needs root.', 403),
  LAB_NOT_DEBIAN: rejected('The lab needs a Debian host with apt and systemd-nspawn.'),
  LAB_TOOLS_MISSING: unavailable('A Debian package that the lab needs is missing and could not be installed.'),
  LAB_NO_SPACE: unavailable('The file system of the lab or of its cache has too little free space.'),
  LAB_MIRROR: rejected("The host's apt sources name no Debian archive that nodes could use."),
  LAB_BAD_OPTION: rejected('A name, count, size or path given to the lab is not allowed.', 400),
  LAB_BUSY: rejected('Another program works on this lab, or its cache is in use.', 409),
  LAB_UNKNOWN_NODE: rejected('The lab has no node of this name.', 404),
  LAB_NODE_STOPPED: rejected('The node is not running.', 409),
  LAB_NODE_NOT_BOOTED: unavailable('The node did not finish booting in time, or ended while booting.'),
  LAB_NETWORK: unavailable('No free network, or a bridge could not be made.'),
  LAB_PROGRAM_FAILED: unavailable('A program that the lab runs on the host failed; the message has its last lines.'),
  LAB_STATE: rejected('The state file of the lab cannot be read; `lab down` removes the lab.', 409),
  LAB_NOT_CLEAN: unavailable('Something of the lab could not be removed; the message says what.'),
  // server (composition)
  SERVER_LOCKED: rejected('Another server is running on this data directory.', 409),
  ENGINE_NAME_TAKEN: rejected('Another engine of this name runs on the same store; give each its own data directory.', 409),
  SERVER_PORT_TAKEN: rejected('The address to listen on is in use, or is not one of this machine.', 409),
  SERVER_MASTER_KEY: rejected('The master key is missing, malformed, or not the one that the store was sealed with.'),
  SERVER_CONFIGURATION: rejected('A setting of the environment is malformed; every problem is listed.'),
  // internal contradictions
  TASK_ILLEGAL_EVENT: bug('An event does not fit the state of its task.'),
  INTERNAL: bug('A defect in Lichen. The server log has the details.'),
} as const satisfies Record<string, ErrorEntry>

/** A code of the table. */
export type ErrorCode = keyof typeof errorTable

/** One thing wrong with an input: machine-readable code, where it is, and a sentence that says what was found. */
export interface Problem {
  readonly code: ErrorCode
  /** Path into the input as people write it, e.g. `components[2].uses.database`; empty for the whole. */
  readonly path: string
  readonly message: string
}

/**
 * The error that every package throws on purpose. `problems` holds every mistake found at once for kind `rejected`.
 */
export class LichenError extends Error {
  readonly code: ErrorCode
  readonly problems: readonly Problem[]
  /** Seconds after which a retry makes sense; only for kind `unavailable`. */
  readonly retryAfterS: number | undefined

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; problems?: readonly Problem[]; retryAfterS?: number } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'LichenError'
    this.code = code
    this.problems = options.problems ?? []
    this.retryAfterS = options.retryAfterS
  }

  /** The entry of the table for this error's code. */
  get entry(): ErrorEntry {
    return errorTable[this.code]
  }
}
