// Long enough to see in the morning which engines died over night; twice as long shows machines that are gone for good.
/** How long the row of an engine stays after it expired. */
export const rowLifeMs = 24 * 3_600_000
