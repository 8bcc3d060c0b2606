import { createElement } from "react";
import { expect, test } from "vitest";
import { meQuery } from "../../api/queries";
import { rendered } from "../../rendered";
import { Server } from "./Server";

test("acts are the operator's only where nobody logs in", () => {
  const drawn = (mode: string): string => rendered(createElement(Server), [[meQuery.queryKey, { mode }]]);
  expect(drawn("open")).toContain("logged as the operator");
  expect(drawn("required")).not.toContain("logged as the operator");
});
