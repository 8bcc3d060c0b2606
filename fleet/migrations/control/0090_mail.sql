-- What each list of people was told by mail, and what is on its way. A list is '*', of everything, or a project.

create table mail (
    list text primary key,
    book text not null
);
