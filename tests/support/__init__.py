"""What tests of several folders use: devices, the rule for numbers, seeded weights, small programs, damaged files."""
