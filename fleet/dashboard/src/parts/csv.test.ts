import { expect, test } from "vitest";
import { csv } from "./csv";

test("quotes what needs it and defuses what a spreadsheet would run", () => {
  expect(csv(["a", "b"], [["x, y", 'say "no"'], ["=1+1", "@home"], ["-5", "line\nline"], ["", "plain"]])).toBe(
    "a,b\r\n\"x, y\",\"say \"\"no\"\"\"\r\n'=1+1,'@home\r\n'-5,\"line\nline\"\r\n,plain\r\n",
  );
});
