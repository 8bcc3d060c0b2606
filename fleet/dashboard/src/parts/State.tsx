// One state as shape, colour and word: any one of the three is enough.
import { words } from "../format";
import { toneColour, toneOf, type Tone } from "../palette";

const shapes: Record<Tone, React.ReactNode> = {
  good: <circle cx="6" cy="6" r="5" fill="currentColor" />,
  busy: (
    <>
      <circle cx="6" cy="6" r="4.2" fill="none" stroke="currentColor" strokeWidth="1.6" />
      <path d="M6 6V1.8A4.2 4.2 0 0 1 6 10.2z" fill="currentColor" />
    </>
  ),
  warn: <path d="M6 .8l5.6 10H.4z" fill="currentColor" />,
  bad: <path d="M1 1h10v10H1z" fill="currentColor" />,
  idle: <circle cx="6" cy="6" r="4.2" fill="none" stroke="currentColor" strokeWidth="1.6" />,
};

export function State({ is, tone = toneOf(is), word = words(is) }: { is: string; tone?: Tone; word?: string }) {
  return (
    <span className="state" style={{ color: toneColour[tone] }}>
      <Shape tone={tone} />
      {word}
    </span>
  );
}

export function Shape({ tone }: { tone: Tone }) {
  return (
    <svg width="12" height="12" viewBox="0 0 12 12" aria-hidden="true" style={{ color: toneColour[tone] }}>
      {shapes[tone]}
    </svg>
  );
}
