import { expect, test } from "vitest";
import { tick } from "./ticks";

const at = Date.parse("2027-03-14T22:30:00Z") / 1_000;

test.each([
  [[at, at + 3_600], "UTC", "22:30"],
  [[at, at + 3_600], "Asia/Tokyo", "07:30"],
  [[at, at + 10], "Asia/Tokyo", "07:30:00"],
  [[at, at + 2 * 86_400], "UTC", "14 Mar"],
  [[at, at + 2 * 86_400], "Asia/Tokyo", "15 Mar"],
])("the axis is in the page's zone: %j in %s", (ticks, zone, said) => expect(tick(at, ticks, zone)).toBe(said));
