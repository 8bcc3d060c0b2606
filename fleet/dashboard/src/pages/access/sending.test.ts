import { expect, test } from "vitest";
import { changeOf, listed, rolesLines, rolesOf } from "./sending";

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

test("of a person only what was changed is sent", () => {
  const person = { roles: { er: "admin", icu: "viewer" }, disabled: false };
  const same = { lines: rolesLines(person.roles), letIn: true, password: "" };
  expect(changeOf(person, same)).toEqual({});
  expect(changeOf(person, { ...same, letIn: false })).toEqual({ disabled: true });
  expect(changeOf({ ...person, disabled: true }, same)).toEqual({ disabled: false });
  expect(changeOf(person, { ...same, password: "a new long one" })).toEqual({ password: "a new long one" });
  expect(changeOf(person, { ...same, lines: "er: viewer" })).toEqual({ roles: { er: "viewer" } });
  expect(changeOf(person, { ...same, lines: "er: king" })).toBe("er: king");
});
