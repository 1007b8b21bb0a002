/** What the tests share. */

export const SECOND = 1_000_000_000n;

/** The UUID of this number, as text. */
export function uuid(number: number): string {
  return `00000000-0000-0000-0000-${number.toString(16).padStart(12, "0")}`;
}
