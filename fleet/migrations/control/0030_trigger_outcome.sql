-- Refused triggers are many and are trimmed; what became a run is kept.
alter table triggers add column refused boolean not null default false;
create index triggers_refused on triggers (model, refused, at, id);
