"""The policy as the RevOps team writes it: read, checked, doubted, and put into force."""
