"""The paper's claims on XOR: its plan of runs, evidence, claims, figures and pages."""
