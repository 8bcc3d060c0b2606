-- Which root each box trusts, as its last hello said: authorities that only older roots vouch for may go when all are past them.

alter table devices add column root bigint;
