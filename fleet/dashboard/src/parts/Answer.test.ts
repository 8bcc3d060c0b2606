import { expect, test, vi } from "vitest";
import { rendered } from "../rendered";
import { Answer } from "./Answer";

// The zone stands in the address, and there is none here.
vi.mock("../shell/zone", () => ({ useZone: () => "UTC" }));

const drawn = (data: string | undefined, error: Error | null): string =>
  rendered(Answer<string>({ of: { data, error, dataUpdatedAt: Date.parse("2027-03-14T06:20:00Z"), refetch: () => undefined }, children: (said) => said }));

test("what is old says how old it is, and why there is nothing newer", () => {
  expect(drawn("three devices", null)).not.toContain("Not newer than");
  const old = drawn("three devices", new Error("The server does not answer"));
  for (const part of ["three devices", "Not newer than", "14 Mar 2027 06:20", "The server does not answer", "Try again"]) expect(old).toContain(part);
});

test("without any answer the failure stands alone", () => {
  expect(drawn(undefined, new Error("The server does not answer"))).not.toContain("Not newer than");
});
