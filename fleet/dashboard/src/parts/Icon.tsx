// The few icons in use, drawn on a 20-unit grid. Always beside a word or inside a named button, so hidden from readers.
const paths = {
  overview: "M3 3h6v7H3zM11 3h6v4h-6zM11 9h6v8h-6zM3 12h6v5H3z",
  rollouts: "M3 5h5M3 10h9M3 15h14M14 3l3 2-3 2",
  devices: "M3 4h14v9H3zM7 17h6M10 13v4",
  models: "M10 2.5l6.5 3.7v7.6L10 17.5l-6.5-3.7V6.2zM3.5 6.2L10 10l6.5-3.8M10 10v7.5",
  drift: "M2.5 13c2.5 0 2.5-6 5-6s2.5 6 5 6 2.5-8 5-9.5M14.5 3.2l3 .3-.5 3",
  runs: "M16.5 10a6.5 6.5 0 1 1-2-4.7M16.5 2.5v4h-4",
  audit: "M5 2.5h7.5L16 6v11.5H5zM12 2.5V6h4M8 10h5M8 13h5",
  settings: "M3 6h7M14 6h3M3 14h3M10 14h7M10 4v4h4V4zM6 12v4h4v-4z",
  print: "M6 7V2.5h8V7M5 14H3V7h14v7h-2M6 11.5h8v6H6z",
  sun: "M10 6.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7zM10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.3 4.3l1 1M14.7 14.7l1 1M4.3 15.7l1-1M14.7 5.3l1-1",
  moon: "M16.5 12.2A7 7 0 0 1 7.8 3.5a7 7 0 1 0 8.7 8.7z",
  search: "M8.5 3a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11zM12.5 12.5L17 17",
  help: "M7.5 7.5a2.5 2.5 0 1 1 3.5 2.3c-.7.3-1 .8-1 1.7M10 14.5v.2M10 2.5a7.5 7.5 0 1 0 0 15 7.5 7.5 0 0 0 0-15z",
  pause: "M7 4v12M13 4v12",
  play: "M6 4l10 6-10 6z",
  copy: "M7 7h9v10H7zM4 13V3h9",
  check: "M4 10.5l4 4 8-9",
} as const;

export type IconName = keyof typeof paths;

export function Icon({ name, size = 18 }: { name: IconName; size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 20 20" fill="none" stroke="currentColor" strokeWidth="1.6" strokeLinecap="round" strokeLinejoin="round" aria-hidden="true">
      <path d={paths[name]} />
    </svg>
  );
}

export function Brand() {
  return <img src="/favicon.svg" width={24} height={24} alt="" />;
}
