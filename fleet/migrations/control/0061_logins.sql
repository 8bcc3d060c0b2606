-- Logins that were sent to the identity provider and have not come back: what their answer must hold, once.

create table logins (
    digest   text primary key,
    state    text   not null,
    nonce    text   not null,
    verifier text   not null,
    expires  bigint not null
);
create index logins_by_expiry on logins (expires);
