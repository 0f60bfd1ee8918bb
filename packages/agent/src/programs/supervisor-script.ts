/**
 * The supervisor of a program: a script for /bin/sh (dash, or whatever stands there) and three programs of coreutils. It leads a session of its own and needs nobody.
 *
 *   sh ─┬─ sh ─── timeout ─── the program         in a process group of their own
 *       ├─ sh ─── dd          keeps stdout        these in the group of the supervisor
 *       └─ sh ─── dd          keeps stderr
 *
 * In its directory it writes `state`, line by line: `S<pid> <start time> <limit>` when it begins, `E<exit code> <uptime at the start> <uptime at the end>` when the program is over
 * (before it the shell's own words when a signal ended it), `C<output>` when output was lost to a full disk, `X<output> <bytes>` when that went on to the program's end, `D` when all output is in the files. The file was filled with
 * newlines before, so that a full disk does not keep it from being written.
 *
 * Output goes to `stdout.0`, `stdout.1`…: a new file after 1024 reads of up to 8 KiB. Before it begins one, the second last must be gone: so a program whose output nobody
 * takes has to wait, and never fills a disk. When the program is over there is nobody to wait for: what is left in the pipe makes one more file, and that is the last. dd writes what it reads at once, unlike head, and never reads more than it is to write, unlike cat under a limit.
 *
 * On a full disk dd loses what it has read, at most 8 KiB. Then the program waits until there is room for much more than that; if it is over before, what is left in the pipe is
 * counted. The next file is made first: so that what the full one takes can be given back.
 *
 * The limit is for when no agent is there: `timeout` ends the program, and what is left of its session 5 s later is killed.
 *
 * Arguments: directory, limit in seconds, program and its arguments. Nothing is ever quoted into the text.
 */

/**
 * Reads that make a file of output: 8 MiB in bulk. A program that prints in small writes fills a file with little; fewer reads would make it wait for the agent more often,
 * more (or larger ones) would let output that nobody takes take more of the disk.
 */
const readsPerFile = 1024
/** Of 64 KiB: room for which a program waits on a full disk. With much less it would lose something again at once, with much more a small disk would never do. */
const roomPieces = 8
/** Newlines that `state` and what dd says begin as: more than either ever writes. */
export const stateBytes = 512

/** Paths of the programs that the script uses: the supervised program's PATH may be anything. */
export interface SupervisorTools {
  readonly dd: string
  readonly timeout: string
  readonly sleep: string
  readonly wc: string
}

/** The script. */
export const buildSupervisorScript = ({ dd, timeout, sleep, wc }: SupervisorTools): string => `
d=$1 l=$2
shift 2
exec 4<>"$d/state" || exit
start() { echo "S$$ \${20} $l" >&4; }
read -r s </proc/$$/stat
start \${s##*) }
read -r begun x </proc/uptime
member() { [ "$4" = $$ ] && [ "$3" != $$ ] && [ "$1" != Z ]; }
sweep() {
  i=0
  while [ $i -lt 30 ]; do
    left=
    for p in /proc/[0-9]*; do
      read -r s 2>/dev/null <"$p/stat" || continue
      member \${s##*) } || continue
      left=1
      [ $i -lt 25 ] || kill -KILL "\${p#/proc/}"
    done 2>/dev/null
    [ "$left" ] || return 0
    ${sleep} 0.2
    i=$((i+1))
  done
}
over() {
  while read -r s; do
    case $s in E*) return 0 ;; esac
  done <"$d/state"
  return 1
}
room() {
  ${dd} if=/dev/zero bs=64k count=${roomPieces} of="$d/$1.room" 2<>"$d/$1.dd" 4>&- && r=0 || r=1
  : >"$d/$1.room"
  return $r
}
keep() {
  umask 077
  n=0 cut= last=
  while :; do
    if LC_ALL=C ${dd} bs=8k count=${readsPerFile} of="$d/$1.$n" 2<>"$d/$1.dd" 4>&-; then
      while read -r x y; do [ "$y" != 'records in' ] || break; done <"$d/$1.dd"
      [ "$(($x))" = ${readsPerFile} ] || return 0
    else
      [ "$cut" ] || echo "C$1" >&4
      cut=1
      : >"$d/$1.$((n+1))"
      until room "$1"; do
        if over; then echo "X$1 $(${wc} -c 4>&-)" >&4; return 0; fi
        ${sleep} 0.2
      done
    fi
    [ ! "$last" ] || return 0
    n=$((n+1))
    while [ -e "$d/$1.$((n-2))" ]; do
      if over; then last=1; break; fi
      ${sleep} 0.05
    done
  done
}
{
  {
    (exec ${timeout} -k 5 "$l" "$@" 2>&3 3>&- 4>&-)
    e=$?
    read -r ended x </proc/uptime
    [ $((\${ended%.*} - \${begun%.*} + 1)) -lt "\${l%.*}" ] || { [ $e != 124 ] && [ $e != 137 ]; } || sweep
    echo "E$e $begun $ended" >&4
  } 2>&4 | keep stdout 3>&-
} 3>&1 | keep stderr
echo D >&4
`

/** What the state file says. */
export interface SupervisorState {
  readonly pid: number | undefined
  readonly startTime: string | undefined
  /** Seconds after which the supervisor ends the program. */
  readonly limitS: number
  /** How the program ended; undefined while it runs. `signal`: in the words of the shell. */
  readonly end: { readonly exitCode: number; readonly signal: string | undefined; readonly ranS: number } | undefined
  readonly isDone: boolean
  /** Outputs that lost something to a full disk, with the bytes that are known to be lost. */
  readonly cuts: readonly { readonly output: string; readonly sizeBytes: number | undefined }[]
}

/** The state in this text: a line that is not whole is not there yet. */
export function parseState(text: string): SupervisorState {
  let [pid, startTime, limitS, end, isDone]: [number | undefined, string | undefined, number, SupervisorState['end'], boolean] = [undefined, undefined, Infinity, undefined, false]
  const cuts: { output: string; sizeBytes: number | undefined }[] = []
  let words: string | undefined
  for (const line of text.slice(0, text.lastIndexOf('\n') + 1).split('\n')) {
    const [, type, rest = ''] = /^([SECXD])(\d.*|std.*|)$/.exec(line) ?? []
    const fields = rest.split(' ')
    if (type === 'S') [pid, startTime, limitS] = [Number(fields[0]), fields[1], Number(fields[2])]
    else if (type === 'E') end = { exitCode: Number(fields[0]), signal: words, ranS: Number(fields[2]) - Number(fields[1]) }
    else if (type === 'C') cuts.push({ output: rest, sizeBytes: undefined })
    else if (type === 'X') cuts.push({ output: fields[0]!, sizeBytes: Number(fields[1]) })
    else if (type === 'D') isDone = true
    else if (line !== '') words = line.trim()
  }
  return { pid, startTime, limitS, end, isDone, cuts }
}
