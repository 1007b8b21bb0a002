import type { Dashboard } from "@grafana/schema/dist/types/raw/dashboard/x/types.gen";

/** What JSON has where the type has an enumeration of strings. */
type Plain<T> = T extends string
  ? `${T}`
  : T extends number | boolean | null | undefined
    ? T
    : T extends Array<infer E>
      ? Array<Plain<E>>
      : T extends object
        ? { [K in keyof T]: Plain<T[K]> }
        : T;

export type PlainDashboard = Plain<Dashboard>;
