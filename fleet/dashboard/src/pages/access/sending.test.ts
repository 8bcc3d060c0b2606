import { expect, test } from "vitest";
import { listed, rolesLines, rolesOf } from "./sending";

test("roles are lines, and what is none is named", () => {
  expect(rolesOf(" er: operator\n\n default:viewer ")).toEqual({ er: "operator", default: "viewer" });
  expect(rolesOf("")).toEqual({});
  for (const line of ["er", "er: king", ": viewer", "er: viewer: admin"]) expect(rolesOf(`default: admin\n${line}`)).toBe(line.trim());
  expect(rolesOf(rolesLines({ er: "admin", a: "viewer" }))).toEqual({ er: "admin", a: "viewer" });
});

test("a list is what stands between commas", () => {
  expect(listed(" a, b ,,c ")).toEqual(["a", "b", "c"]);
  expect(listed(" ")).toEqual([]);
});
