"""One function for each verb: config in, result out; called by the command line, the API and the tests."""
