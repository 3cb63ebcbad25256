"""Likely label errors of a data set: what networks see that its annotations do not say, and the reverse."""

from ctnet.audit.decisions import apply_decisions as apply_decisions
from ctnet.audit.decisions import read_decisions as read_decisions
from ctnet.audit.run import Audit as Audit
from ctnet.audit.run import AuditChoice as AuditChoice
from ctnet.audit.run import audit as audit
