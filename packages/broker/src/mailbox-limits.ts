/** What a mailbox takes, the same for both adapters. Whoever breaks it has a defect. */
import { LichenError } from '@lichen/core'

/** The longest body of one message: as much as RabbitMQ 4 takes by default. */
export const largestBodyBytes = 16 << 20

/** True when a mailbox may have this name: letters, digits and `._:@-`, at most 128, which leaves room for the rest of a queue's name. */
export const isMailboxName = (name: string): boolean => /^[A-Za-z0-9._:@-]{1,128}$/.test(name)

/** @throws INTERNAL when no mailbox may have this name */
export function checkMailboxName(name: string): void {
  if (!isMailboxName(name)) throw new LichenError('INTERNAL', `"${name}" is no name of a mailbox: 1 to 128 letters, digits and ._:@- are`)
}

/** @throws INTERNAL when the body is longer than a mailbox takes */
export function checkMailboxBody(body: Uint8Array): void {
  if (body.length > largestBodyBytes) throw new LichenError('INTERNAL', `a message of ${body.length} bytes is longer than a mailbox takes (${largestBodyBytes})`)
}
