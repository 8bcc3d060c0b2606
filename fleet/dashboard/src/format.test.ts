import { describe, expect, test } from "vitest";
import { ago, bytes, duration, figure, isZone, milliseconds, none, percent, plural, short, signed, stamp, stampClock, words, worldDiffers } from "./format";

function check<T>(name: string, of: (input: T) => string, cases: [T, string][]): void {
  test.each(cases)(`${name} %j → %s`, (input, expected) => expect(of(input)).toBe(expected));
}

describe("numbers", () => {
  check<number | null | undefined>("bytes", bytes, [
    [0, "0 B"], [999, "999 B"], [1_000, "1.0 kB"], [4_218_880, "4.2 MB"], [999_960, "1.0 MB"], [16.5e9, "16.5 GB"], [3e15, "3000 TB"], [null, none], [Number.NaN, none],
  ]);
  check<number | string | null>("figure", figure, [
    [0, "0"], [0.91, "0.91"], [-0.0132, "−0.0132"], [1_234.5, "1,235"], [21_884, "21,884"], [0.00001, "1.0e−5"], ["3 of 4", "3 of 4"], [null, none], [Number.POSITIVE_INFINITY, none],
  ]);
  check<number | null>("signed", signed, [[0.844, "+0.84"], [-0.31, "−0.31"], [-0.001, "0.00"], [null, none]]);
  check<number | null>("percent", percent, [[4.14, "4.1 %"], [9.96, "10 %"], [26.4, "26 %"], [null, none]]);
  check<number | null>("milliseconds", milliseconds, [[910, "0.91 ms"], [1_500_000, "1,500 ms"], [null, none]]);
});

describe("times", () => {
  check<number>("duration", duration, [
    [-3, "0 s"], [8.4, "8 s"], [95, "1 min 35 s"], [720, "12 min"], [5_400, "1 h 30 min"], [90_000, "1 d 1 h"], [86_400 * 45, "45 d"], [Number.NaN, none],
  ]);
  const now = Date.parse("2027-03-14T06:20:00Z");
  check<string | null>("ago", (at) => ago(at, now), [
    ["2027-03-14T06:19:58Z", "now"], ["2027-03-14T06:10:00Z", "10 min ago"], ["2027-03-14T06:21:00Z", "in 1 min"], ["not a time", none], [null, none],
  ]);
  check<string | null>("stamp", stamp, [["2027-03-04T06:05:59Z", "4 Mar 2027 06:05"], ["2027-03-04T01:05:00+02:00", "3 Mar 2027 23:05"], ["", none], [null, none]]);
  test("clocks of a site move with its summer time; an unknown zone is UTC", () => {
    expect(stamp("2026-11-26T23:30:00Z", "Europe/Berlin")).toBe("27 Nov 2026 00:30");
    expect(stamp("2026-07-26T23:30:00Z", "Europe/Berlin")).toBe("27 Jul 2026 01:30");
    expect(stampClock("2026-07-26T23:30:09Z", "Europe/Berlin")).toBe("01:30:09");
    expect(stamp("2026-07-26T23:30:00Z", "Mars/Olympus")).toBe("26 Jul 2026 23:30");
    expect([isZone("Asia/Tokyo"), isZone("Mars/Olympus")]).toEqual([true, false]);
  });
  test("world time counts as different from two minutes on", () => {
    expect(worldDiffers("2027-03-14T06:20:00Z", "2027-03-14T06:21:00Z")).toBe(false);
    expect(worldDiffers("2027-05-14T06:20:00Z", "2027-03-14T06:21:00Z")).toBe(true);
    expect(worldDiffers(undefined, "2027-03-14T06:21:00Z")).toBe(false);
  });
});

describe("words", () => {
  check<string | null>("words", words, [["rolling_back", "Rolling back"], ["", none], [null, none]]);
  check<string | null>("short", short, [["1b2d471b2d47aa", "1b2d471b2d…"], ["1.0.0", "1.0.0"], [null, none]]);
  check<number>("plural", (n) => plural(n, "device"), [[1, "1 device"], [0, "0 devices"], [12_000, "12,000 devices"]]);
});
