-- What trainers elsewhere hand back. One row a run: a new token takes the place of the one before, with its result.
create table handbacks (
    run     text   primary key references runs (id),
    -- SHA-256; the token itself is nowhere.
    token   blob   not null,
    -- Of the claim that the token belongs to.
    attempt bigint not null,
    -- Real time.
    until   bigint not null,
    result  text
);
create unique index handbacks_by_token on handbacks (token);
