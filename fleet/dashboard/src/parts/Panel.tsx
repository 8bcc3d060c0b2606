// The page's building blocks: a heading with its content, and the head of a page.
import { useEffect, useId } from "react";
import type { Tone } from "../palette";
import { text } from "../strings";

interface PanelProps {
  title: string;
  aside?: React.ReactNode;
  tone?: Tone | undefined;
  /** To be pointed at. */
  id?: string;
  children: React.ReactNode;
}

export function Panel({ title, aside, tone, id, children }: PanelProps) {
  const heading = useId();
  return (
    <section className="panel" id={id} aria-labelledby={heading} data-tone={tone}>
      <header>
        <h2 id={heading}>{title}</h2>
        {aside !== undefined && <div className="soft small">{aside}</div>}
      </header>
      {children}
    </section>
  );
}

interface PageHeadProps {
  title: string;
  crumb?: React.ReactNode;
  state?: React.ReactNode;
  children?: React.ReactNode;
}

export function PageHead({ title, crumb, state, children }: PageHeadProps) {
  useEffect(() => {
    document.title = `${title} · ${text.product}`;
  }, [title]);
  return (
    <div className="page-head">
      {crumb !== undefined && <div className="crumb">{crumb}</div>}
      <h1>{title}</h1>
      {state}
      {children !== undefined && <div className="right">{children}</div>}
    </div>
  );
}

export function Note({ children }: { children: React.ReactNode }) {
  return <p className="body soft">{children}</p>;
}
